"""A model with another vocabulary: the same parameters, except those that have a row for each token.

Place in the flow: `resize.py` and `shrink.py` say what the rows are, this puts them into the model, whatever its
family, tied or not, an encoder-decoder or one that sees. Read next: `resize.py`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.models import build_model
from malmoi.nn.quantized import quantization_of
from malmoi.nn.stack import Model

_IDS = ("image_token", "audio_token", "pad_id")
"""Fields of families' configurations that name a token."""


def with_rows(
    model: Model,
    vocab_size: int,
    rows: Callable[[Tensor], Tensor],
    *,
    new_id: Callable[[int], int | None] = lambda old: old,
) -> Model:
    """Return a model of `vocab_size` tokens; `rows` makes the new rows of an embedding, a head or a head's bias.

    The other parameters are shared with `model`, which is not changed. Nothing is copied that does not have to be: the
    weights may be files. `new_id` says what became of an id that the configuration names.

    Raises:
        ConfigError: the model is quantised, has no vocabulary, or its configuration names a token that is gone.

    >>> from malmoi.testing.models import tiny_llama
    >>> smaller = with_rows(tiny_llama(), 10, lambda weight: weight[:10])
    >>> smaller(torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3, 10])
    """
    if quantization_of(model) is not None:
        raise ConfigError("this model is quantised. Change the vocabulary of the full one, then quantise it.")
    with torch.device("meta"):
        new = build_model(_with_vocabulary(model.config, vocab_size, new_id))
    is_of_tokens = _of_tokens(model)
    made: dict[nn.Parameter, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter not in made:
            made[parameter] = parameter
            if name in is_of_tokens:
                values = rows(parameter.detach())
                made[parameter] = nn.Parameter(values, requires_grad=parameter.requires_grad)
        module, _, key = name.rpartition(".")
        setattr(new.get_submodule(module), key, made[parameter])
    return new.train(model.training)


def vocabulary_of(config: Any) -> int:
    """How many rows a model of this configuration has. Raises ConfigError for one that reads no tokens.

    >>> from malmoi.models.registry import find_preset
    >>> vocabulary_of(find_preset("llama3-8b"))
    128256
    """
    if hasattr(config, "vocab_size"):
        return int(config.vocab_size)
    if hasattr(config, "text"):
        return vocabulary_of(config.text)
    raise ConfigError(f"{type(config).__name__} has no vocabulary: such a model reads no tokens.")


def _with_vocabulary(config: Any, vocab_size: int, new_id: Callable[[int], int | None]) -> Any:
    changes: dict[str, Any] = {}
    for name in (name for name in _IDS if hasattr(config, name)):
        changes[name] = new_id(getattr(config, name))
        if changes[name] is None:
            raise ConfigError(
                f"the model's {name} is {getattr(config, name)}, and the new vocabulary has no such token. Add it."
            )
    if hasattr(config, "vocab_size"):
        return dataclasses.replace(config, vocab_size=vocab_size, **changes)
    return dataclasses.replace(config, text=_with_vocabulary(config.text, vocab_size, new_id), **changes)


def _of_tokens(model: Model) -> set[str]:
    """The parameters that would have one row more if the vocabulary had one token more."""
    size = vocabulary_of(model.config) + 1
    with torch.device("meta"):
        larger = build_model(_with_vocabulary(model.config, size, lambda old: old))
    shapes = {name: parameter.shape for name, parameter in model.named_parameters(remove_duplicate=False)}
    return {
        name
        for name, parameter in larger.named_parameters(remove_duplicate=False)
        if parameter.shape != shapes[name]
    }
