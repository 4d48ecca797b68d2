"""The forward half of a step: a packed batch -> the states of the model, or of its decoder -> its summed loss.

Here training meets `torch.compile`; nothing else knows of it. Read next: `objective.py`, `nn/context.py`.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.data.pack import PackedBatch
from malmoi.nn.cache import KeyValueSpec, PackedLayout
from malmoi.nn.context import Context
from malmoi.nn.stack import EncoderDecoder
from malmoi.nn.transfer import send
from malmoi.train.objective import Learner, NextToken, Objective


class Forward:
    """`forward(batch)` -> the loss of all its targets together, in nats, on the model's device.

    Compiled, the first call takes a minute, and raises ConfigError where there is no compiler. `forward.plain`
    is the same without compiling the model: for evaluation, whose graph has no gradients and would be another one.
    """

    def __init__(self, model: Learner, *, is_compiled: bool, objective: Objective | None = None) -> None:
        if is_compiled:
            _require_compilable(model)
        self.model, self.is_compiled = model, is_compiled
        self._compiled = torch.compile(model.hidden) if is_compiled else model.hidden
        self._loss = (objective or NextToken()).loss(model, is_compiled=is_compiled)

    def __call__(self, batch: PackedBatch, *, router_logits: list[Tensor] | None = None) -> Float[Tensor, ""]:
        """The loss. Appends the scores of each router to `router_logits` where that is a list (mutates it)."""
        try:
            return self._loss(self._run(self._compiled, batch, router_logits), batch)
        except RuntimeError as error:
            if self.is_compiled:
                _refuse_if_the_compiler_failed(error)
            raise

    def plain(self, batch: PackedBatch) -> Float[Tensor, ""]:
        return self._loss(self.states(batch), batch)

    def states(self, batch: PackedBatch) -> Float[Tensor, "1 T D"]:
        """The model's states, not compiled: what an objective judges besides its loss."""
        return self._run(self.model.hidden, batch)

    def _run(
        self,
        hidden: Callable[[Tensor, Context], Tensor],
        batch: PackedBatch,
        router_logits: list[Tensor] | None = None,
    ) -> Float[Tensor, "1 T D"]:
        model, device = self.model, self.model.device
        source = None
        if batch.source is not None:
            assert isinstance(model, EncoderDecoder), "only an encoder-decoder reads a source"
            specs = model.encoder.cache_specs()
            places = Context.packed(batch.source_lengths, specs=specs, device=device)
            source = model.encode(send(batch.source, device), places)
        context = Context.packed(
            batch.lengths,
            specs=model.cache_specs(),
            device=device,
            source=source,
            source_lengths=None if source is None else batch.source_lengths,
        )
        if self.is_compiled:
            _allow_any_number_of_segments(context)
        return hidden(send(batch.tokens, device), replace(context, router_logits=router_logits))


def _require_compilable(model: Learner) -> None:
    """Raise ConfigError where compiling could only lose: each batch would be compiled anew, or nothing would be."""
    if isinstance(model, EncoderDecoder):
        raise ConfigError(
            "compile=true, but the texts of an encoder-decoder are damaged anew in each batch, and no two batches are "
            "equally long. Set compile=false."
        )
    if not all(isinstance(spec, KeyValueSpec) for spec in model.cache_specs()):
        raise ConfigError(
            "compile=true, but this model is recurrent, and its time goes into PyTorch's own cells, which are compiled "
            "already. Set compile=false."
        )


def _allow_any_number_of_segments(context: Context) -> None:
    """Spare the compiler its second attempt: the number of segments differs from batch to batch, T does not."""
    layout = context.caches[0]
    assert isinstance(layout, PackedLayout)
    torch._dynamo.mark_dynamic(layout.offsets, 0)


def _refuse_if_the_compiler_failed(error: RuntimeError) -> None:
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import, so not at the top

    if isinstance(error, TorchDynamoException):
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"the step cannot be compiled here: {reason}. Install a C++ compiler and Python's headers (Debian: g++, "
            "python3-dev), or set compile=false, which is slower."
        ) from error
