"""What a family is: the facts that each page of this folder states, and what is the same for all.

A page (`llama.py`, `gpt2.py`, ...) holds its Config and presets, its assembly from bricks, its reversible weight
rules, and how its Hugging Face config reads and writes. It ends with `PRESETS`, published models by the name that
`malmoi inspect` takes, and `FAMILIES`. What the pages of one line share, the fields of their shape, its keys and the
names of tensors, stands beside them (`llama_shape.py`, `bert_shape.py`, ...); what all share, here or in
`checkpoint.py`. Read next: `llama.py`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.audio import StoredSinusoids
from malmoi.nn.block import Residual
from malmoi.nn.linear import Linear
from malmoi.nn.moe import SigmoidRouter
from malmoi.nn.norm import LayerNorm, OffsetRMSNorm, RMSNorm
from malmoi.nn.packed import PackedWeight
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.stack import Model, Stack
from malmoi.weights.rules import Rules

C = TypeVar("C")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Family(Generic[C]):
    """One architecture, as `registry` finds it; a page has one for each `model_type` that it describes.

    `model_type` and `architecture` are what `config.json` calls it; where the architecture depends on the head,
    `write_config` says "architectures" itself. `ideas` are what makes the family itself, a line each, newest last,
    without those of the family that it `grew_from` (its `model_type`). `ignored_tensors` are patterns of buffers
    that old checkpoints saved beside their weights (causal masks, rotary frequencies), and of weights for other tasks:
    they are left out where the configuration has no place for them. `zero_if_absent` are names of tensors that some
    checkpoints leave out, being zero. `optional_prefix` is one that some checkpoints leave off every name but the
    head's; `old_prefixes` and `old_endings` are how names began and ended before, and what that is now: of each the
    first that fits. `settle` corrects a configuration by the tensors beside it, where `config.json` cannot be trusted.
    """

    model_type: str
    architecture: str
    config_class: type[C]
    build: Callable[[C], Model]
    rules: Callable[[C], Rules]
    read_config: Callable[[ConfigReader], C]
    write_config: Callable[[C], dict[str, Any]]
    ideas: tuple[str, ...]
    grew_from: str | None = None
    ignored_tensors: tuple[str, ...] = ()
    zero_if_absent: tuple[str, ...] = ()
    optional_prefix: str = ""
    old_prefixes: Mapping[str, str] = field(default_factory=dict)
    old_endings: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[C, Mapping[str, Tensor]], C] = lambda config, tensors: config


@torch.no_grad()
def initialise(model: M, *, seed: int, std: float = 0.02) -> M:
    """Give a model on the CPU the weights that training starts from (mutates and returns it).

    Embeddings and matrices are normal with deviation `std`; the matrices that write into a residual stream are
    scaled down by the square root of how many of its sublayers do, 2 * layers, so that its size does not grow with
    depth (Radford et al. 2019, section 2.3). A tower and a decoder have a stream each. Biases are zero, but those of
    an LSTM's forget gates one; norms are one. The same seed gives the same weights, whatever the model had before and
    whatever else was drawn.

    >>> from malmoi.models import llama
    >>> model = llama.build(llama.sized(2, vocab_size=256, max_positions=64))
    >>> round(initialise(model, seed=0).head.weight.std().item(), 3)
    0.02
    """
    generator = torch.Generator().manual_seed(seed)
    num_beside = residual_writers(model)
    for module in model.modules():
        if isinstance(module, Linear | nn.Conv1d):
            module.weight.normal_(std=std / num_beside.get(module, 1) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=std, generator=generator)
        elif isinstance(module, LayerNorm | StoredSinusoids | SigmoidRouter):
            module.reset_parameters()
        elif isinstance(module, RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, OffsetRMSNorm):
            module.weight.zero_()
    for module in model.modules():
        if isinstance(module, Recurrent):  # after the matrices, whose biases were just cleared
            module.open_forget_gates()
    return model


def residual_writers(model: Model) -> dict[nn.Module, int]:
    """Each matrix that writes into a residual stream, and how many sublayers write into that one.

    >>> from malmoi.models import llama
    >>> model = llama.build(llama.sized(2, vocab_size=256, max_positions=64))
    >>> set(residual_writers(model).values()), len(residual_writers(model))
    ({4}, 4)
    """
    # The innermost stack, which comes last, is the one whose stream it is.
    stack_of = {
        sublayer: stack
        for stack in model.modules()
        if isinstance(stack, Stack)
        for sublayer in stack.modules()
        if isinstance(sublayer, Residual)
    }
    num_sublayers = Counter(stack_of.values())
    return {
        module: num_sublayers[stack]
        for sublayer, stack in stack_of.items()
        for name, module in sublayer.named_modules()
        if name.endswith((".out", ".down"))
    }


def require_kind(model: Model, kind: type[M], *, for_what: str) -> M:
    """`model`, known to be of a `kind`: Decoder, Encoder, ... Raises ConfigError if it is another one.

    >>> from malmoi.models import llama
    >>> from malmoi.nn.stack import Encoder
    >>> model = llama.build(llama.sized(2, vocab_size=256, max_positions=64))
    >>> require_kind(model, Encoder, for_what="a text embedding")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: a text embedding takes a model of the kind Encoder, and this one is of the kind ...
    """
    if not isinstance(model, kind):
        raise ConfigError(
            f"{for_what} takes a model of the kind {kind.__name__}, and this one is of the kind "
            f"{type(model).__name__}. Use another model."
        )
    return model


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes or a checkpoint stores, frozen ones too; a tied matrix is counted once.

    Those of a packed weight are the ones that it had before.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    packed = (module for module in model.modules() if isinstance(module, PackedWeight))
    return sum(parameter.numel() for parameter in model.parameters()) + sum(
        weight.out_size * weight.in_size for weight in packed
    )
