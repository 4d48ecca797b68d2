"""What a training run is: one frozen value, printed before step 0 and saved beside the weights.

A recipe returns one, `--set` changes it (`core/config.py`), `loop.py` runs it. Read next: `start.py`, `optim.py`,
`schedule.py`, which consume its parts.
"""

from dataclasses import dataclass, field
from typing import Literal

from malmoi.core.errors import ConfigError
from malmoi.data.sources import SourceConfig
from malmoi.train.denoise_objectives import SpanCorruption, TextInfilling
from malmoi.train.encoder_objectives import Labels, MaskedToken, Similarity
from malmoi.train.objective import NextToken
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Schedule, WarmupStableDecay


@dataclass(frozen=True, kw_only=True)
class FromScratch:
    """A new Llama of `depth` layers, everything else in proportion (`models.llama.sized`), or what the objective says.

    That of an encoder is a BERT, that of an encoder-decoder a T5 or BART with `depth` layers on each side.
    """

    kind: Literal["scratch"] = "scratch"
    depth: int = 8
    max_positions: int = 1024

    def __post_init__(self) -> None:
        _require_positive(self, "depth", "max_positions")


@dataclass(frozen=True, kw_only=True)
class FromCheckpoint:
    """The model of a directory or hub id; its chat template and generation defaults come along if it has them.

    Where the objective needs another head than the encoder has, it gets one with new weights.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    path: str


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run. Lengths and budgets are in tokens; `*_every` are in optimiser steps.

    One step sees `tokens_per_batch * batches_per_step` tokens; the run takes `total_tokens` divided by that,
    rounded up. `tokenizer=None` is that of the checkpoint. `precision="auto"` is bf16 where the processor or GPU
    multiplies it natively, else fp32. `compile` takes a minute before the first step and needs a C++ compiler.

    >>> start = FromCheckpoint(path="out/pretrain/model")
    >>> run = RunConfig(out="out/sft", start=start, sources=(SourceConfig(path="chat.jsonl"),), total_tokens=100_000)
    >>> run.tokens_per_step, run.num_steps
    (8192, 13)
    """

    out: str
    start: FromScratch | FromCheckpoint
    sources: tuple[SourceConfig, ...]
    total_tokens: int
    objective: NextToken | MaskedToken | Labels | Similarity | SpanCorruption | TextInfilling = field(
        default_factory=NextToken
    )
    tokenizer: str | None = None
    context_length: int = 512
    tokens_per_batch: int = 8192
    batches_per_step: int = 1
    optim: OptimConfig = OptimConfig()
    schedule: Schedule = field(default_factory=WarmupStableDecay)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = True
    seed: int = 0
    eval_sources: tuple[SourceConfig, ...] = ()
    eval_every: int = 200
    eval_batches: int = 8
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _require_positive(
            self, "total_tokens", "context_length", "tokens_per_batch", "batches_per_step",
            "eval_every", "eval_batches", "checkpoint_every", "keep_checkpoints",
        )  # fmt: skip
        if self.tokenizer is None and isinstance(self.start, FromScratch):
            raise ConfigError(
                "a model from scratch needs a tokenizer. Set tokenizer=DIR; `malmoi tokenizer train` makes one."
            )

    @property
    def tokens_per_step(self) -> int:
        return self.tokens_per_batch * self.batches_per_step

    @property
    def num_steps(self) -> int:
        return -(-self.total_tokens // self.tokens_per_step)


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if (value := getattr(config, name)) < 1:
            raise ConfigError(f"{name}={value} is not positive. Give 1 or more.")
