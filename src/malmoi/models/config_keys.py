"""What a `config.json` and a configuration of ours both say, by two names: told once, read and written.

    KEYS = {"num_hidden_layers": "num_layers", "rms_norm_eps": "norm_eps"}      theirs: ours, as in `weights.rules`

Place in the flow: a page's `read_config` and `write_config` call these, and see themselves to what is more than a
name. Read next: `recurrent.py`, which needs nothing else; `llama.py`.
"""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from malmoi.models.huggingface import REQUIRED, ConfigReader


def read_keys(
    reader: ConfigReader, keys: Mapping[str, str], config_class: type[Any], **defaults: Any
) -> dict[str, Any]:
    """The fields of `config_class` that `keys` names, each of the kind that its annotation says.

    A number has to be above 0. Null is None where a field may be that, and as good as absent elsewhere. A key that is
    absent is what `defaults` say, by our name, or else the field's own default. Raises ConfigError for what is missing
    then, or of another kind.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     num_layers: int
    ...     norm_eps: float = 1e-5
    >>> keys = {"num_hidden_layers": "num_layers", "rms_norm_eps": "norm_eps"}
    >>> read_keys(ConfigReader({"num_hidden_layers": 2}, where="config.json"), keys, Config)
    {'num_layers': 2, 'norm_eps': 1e-05}
    """
    kinds, fields = get_type_hints(config_class), dataclasses.fields(config_class)
    own = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    defaults = {**dict.fromkeys(keys.values(), REQUIRED), **own, **defaults}
    return {ours: _read(reader, theirs, kinds[ours], defaults[ours]) for theirs, ours in keys.items()}


def _read(reader: ConfigReader, key: str, kind: Any, default: Any) -> Any:
    if get_origin(kind) is UnionType:
        if key in reader.nulls or (default is None and key not in reader.raw):
            return None
        [kind] = set(get_args(kind)) - {NoneType}
    if get_origin(kind) is Literal:
        reader.require(key, *get_args(kind))
        kind = str
    given = () if default is None or default is REQUIRED else (default,)
    return reader.positive(key, kind, *given) if kind in (int, float) else reader.take(key, kind, *given)


def write_keys(config: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    """`read_keys` run backwards.

    >>> from malmoi.models.gpt2 import GPT2Config
    >>> write_keys(GPT2Config(), {"n_layer": "num_layers"})
    {'n_layer': 12}
    """
    return {theirs: getattr(config, ours) for theirs, ours in keys.items()}
