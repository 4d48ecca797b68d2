"""The forward half of a step: a packed batch -> the model's states -> its summed loss.

Here training meets `torch.compile`; nothing else knows of it. Read next: `objective.py`, `nn/context.py`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.data.pack import PackedBatch
from malmoi.nn.cache import PackedLayout
from malmoi.nn.context import Context
from malmoi.nn.stack import Stack
from malmoi.train.objective import NextToken, Objective


class Forward:
    """`forward(batch)` -> the loss of all its targets together, in nats, on the model's device.

    Compiled, the first call takes a minute, and raises ConfigError where there is no compiler. `forward.plain`
    is the same without compiling the model: for evaluation, whose graph has no gradients and would be another one.
    """

    def __init__(self, model: Stack, *, is_compiled: bool, objective: Objective | None = None) -> None:
        self.model, self.is_compiled = model, is_compiled
        self._compiled = torch.compile(model.hidden) if is_compiled else model.hidden
        self._loss = (objective or NextToken()).loss(model, is_compiled=is_compiled)

    def __call__(self, batch: PackedBatch) -> Float[Tensor, ""]:
        try:
            return self._loss(self._run(self._compiled, batch), batch)
        except RuntimeError as error:
            if self.is_compiled:
                _refuse_if_the_compiler_failed(error)
            raise

    def plain(self, batch: PackedBatch) -> Float[Tensor, ""]:
        return self._loss(self.states(batch), batch)

    def states(self, batch: PackedBatch) -> Float[Tensor, "1 T D"]:
        """The model's states, not compiled: what an objective judges besides its loss."""
        return self._run(self.model.hidden, batch)

    def _run(self, hidden: Callable[[Tensor, Context], Tensor], batch: PackedBatch) -> Float[Tensor, "1 T D"]:
        device = self.model.device
        context = Context.packed(batch.lengths, specs=self.model.cache_specs(), device=device)
        if self.is_compiled:
            _allow_any_number_of_segments(context)
        return hidden(batch.tokens.to(device), context)


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
