"""What a run will need, said before its first step.

`loop.py` measures one micro-batch and makes the plan of it; `cli/watch.py` prints it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from malmoi.budget import on_paper, parameter_count, weight_bytes
from malmoi.budget.example import example_inputs
from malmoi.budget.rehearsal import Rehearsal
from malmoi.data.pack import PackedBatch
from malmoi.data.sources import SourceConfig
from malmoi.nn.linear import Linear
from malmoi.nn.stack import Decoder, Model
from malmoi.train.config import RunConfig
from malmoi.train.forward import Forward
from malmoi.train.objective import Learner
from malmoi.train.optim import OptimConfig, Optimizers


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The run from here to its end: tokens, steps, and the seconds that a measured micro-batch implies.

    `memory_bytes` is what training adds to the program itself (about 0.4 GB with PyTorch loaded).
    """

    num_parameters: int
    num_table_parameters: int
    memory_bytes: int
    data: str
    num_tokens: int
    num_steps: int
    seconds: float

    def lines(self) -> list[tuple[str, str]]:
        """Label and value, for a terminal table."""
        per_parameter = self.num_tokens / self.num_parameters
        return [
            ("parameters", f"{self.num_parameters:,} ({self.num_table_parameters:,} in embedding and head)"),
            ("memory", f"about {self.memory_bytes / 2**30:.2f} GiB"),
            ("data", self.data),
            ("tokens", f"{self.num_tokens:,} ({per_parameter:.1f} a parameter)"),
            ("steps", f"{self.num_steps:,}"),
            ("time", f"about {format_duration(self.seconds)}, by one measured micro-batch"),
        ]


def make_plan(model: Learner, config: RunConfig, *, seconds_per_batch: float, steps_done: int = 0) -> Plan:
    """Compute the plan of the steps that remain after `steps_done`."""
    num_steps = max(0, config.num_steps - steps_done)
    parameters = parameter_count(model)
    return Plan(
        num_parameters=parameters.total,
        num_table_parameters=parameters.tables,
        memory_bytes=estimate_memory(model, config),
        data=describe_data(config.sources),
        num_tokens=num_steps * config.tokens_per_step,
        num_steps=num_steps,
        seconds=num_steps * config.batches_per_step * seconds_per_batch,
    )


def estimate_memory(model: Learner, config: RunConfig) -> int:
    """Estimate the peak of a step, in bytes; compiled, which fuses what is kept, it is less."""
    batch = made_up_batch(config, torch.zeros(config.tokens_per_batch, dtype=torch.long))
    return training_bytes(
        model,
        config.optim,
        lambda twin: Forward(twin, is_compiled=False, objective=config.objective)(batch),
        num_batches=config.batches_per_step,
    )


def made_up_batch(config: RunConfig, ids: Int[Tensor, " T"]) -> PackedBatch:
    """A micro-batch of the run's shape, to measure by: segments of the full length, and a target where one may be."""
    lengths = tuple(len(segment) for segment in torch.split(ids, config.context_length))
    return config.objective.made_up(PackedBatch(tokens=ids[None], targets=ids[None], lengths=lengths))


def training_bytes(
    model: Model, optim: OptimConfig, loss: Callable[[Any], Tensor], *, num_batches: int = 1
) -> int:
    """The peak of a training step: weights, gradients, moments, and what `loss` of one micro-batch keeps alive.

    Rehearsed with a twin of `model` on the meta device, which `loss` is called with.
    """
    twin = on_paper(model.config, model.dtype)
    twin.compute_dtype = model.compute_dtype
    optimizers = Optimizers(twin, optim)
    with Rehearsal() as rehearsal:
        # Clipping and AdamW's fused kernel work in place; neither runs on the meta device.
        moments = [torch.empty_like(p) for p in optimizers.of_kind("adamw") for _ in range(2)]
        # Muon's momentum exists from the first update on; with AdamW alone a second step would be as the first.
        for _ in range(2 if "muon" in optimizers.all else 1):
            for _ in range(min(num_batches, 2)):
                loss(twin).backward()  # type: ignore[no-untyped-call]
            if "muon" in optimizers.all:
                optimizers.all["muon"].step()
            twin.zero_grad()
        del moments
    return weight_bytes(twin) + rehearsal.peak_bytes


def example_loss(model: Model, length: int, *, batch: int = 1) -> Tensor:
    """The loss of `batch` sequences of `length` tokens, as a model of any kind is trained: for rehearsals.

    A decoder's is computed in chunks; of others, logits, an image's vector or states stand for what a loss would make
    of them.
    """
    inputs = example_inputs(model, length, batch=batch)
    if isinstance(model, Decoder) and isinstance(model.head, Linear) and inputs.keys() == {"tokens"}:
        ids = inputs["tokens"].reshape(1, -1)
        packed = PackedBatch(tokens=ids, targets=ids, lengths=(length,) * batch)
        return Forward(model, is_compiled=False)(packed)
    out = model(**inputs)
    if out.logits is not None:
        made: Tensor = out.logits
    else:  # an encoder without a head for a task
        made = out.hidden if out.pooled is None else out.pooled
    return made.sum()


def describe_data(sources: Sequence[SourceConfig]) -> str:
    """Name each source with its share of the tokens.

    >>> describe_data([SourceConfig(path="data/prose.txt", weight=3), SourceConfig(path="data/chat.jsonl")])
    '75 % data/prose.txt, 25 % data/chat.jsonl'
    """
    total = sum(source.weight for source in sources)
    return ", ".join(f"{source.weight / total:.0%} {source.path}".replace("%", " %", 1) for source in sources)


def format_duration(seconds: float) -> str:
    """Write seconds as a person would say them.

    >>> format_duration(75), format_duration(3725)
    ('75 s', '1 h 02 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
