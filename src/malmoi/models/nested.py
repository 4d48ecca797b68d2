"""A model inside a model: its configuration under a key of another one's, its tensors under a prefix.

LLaVA is a vision tower and a decoder of any family: each is read, built and renamed by its own page. Place in the
flow: the pages `llava`, `audio` and `omni` call these. Read next: `llava.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from malmoi.core.config import Kinds
from malmoi.models.huggingface import ConfigReader
from malmoi.models.registry import family_of, find_family
from malmoi.weights.rules import Rules

AnyConfig = Annotated[
    Any,
    Kinds(
        class_of=lambda kind: find_family(kind).config_class,
        kind_of=lambda config: family_of(config).model_type,
    ),
]
"""A field that holds the configuration of some family."""


def read_nested(
    reader: ConfigReader,
    key: str,
    *,
    model_type: str,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """The configuration under `key`, a `config.json` of its own, of the family `model_type` if it names none.

    `defaults` are what a family's file may leave out there, by `model_type`. Raises ConfigError as that family does.

    >>> inner = {"model_type": "gpt2", "n_layer": 3}
    >>> read_nested(ConfigReader({"text_config": inner}, where="the file"), "text_config", model_type="llama")
    GPT2Config(vocab_size=50257, hidden_size=768, ..., num_layers=3, ...)
    """
    given = reader.take(key, dict)
    model_type = given.get("model_type") or model_type
    family = find_family(model_type)
    missing = {k: v for k, v in (defaults or {}).get(model_type, {}).items() if given.get(k) is None}
    nested = ConfigReader({**given, **missing}, where=f"{reader.where}: {key}")
    config = family.read_config(nested)
    nested.finish()
    return config


def write_nested(config: Any) -> dict[str, Any]:
    """`read_nested` run backwards: what stands under the key."""
    family = family_of(config)
    return {
        "model_type": family.model_type,
        "bos_token_id": None,
        "eos_token_id": None,
        **family.write_config(config),
    }


def nested_rules(config: Any, *, theirs: str, ours: str) -> Rules:
    """The rules of the model inside: its checkpoint's names begin with `theirs`, its place in ours is `ours`."""
    return family_of(config).rules(config).under(theirs, ours)
