"""What a run will need, said before its first step.

`loop.py` measures one micro-batch and makes the plan of it; `cli/watch.py` prints it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from malmoi.data.sources import SourceConfig
from malmoi.models import count_parameters
from malmoi.nn.stack import Decoder
from malmoi.train.config import RunConfig
from malmoi.train.losses import rows_per_chunk


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


def make_plan(model: Decoder, config: RunConfig, *, seconds_per_batch: float, steps_done: int = 0) -> Plan:
    """Compute the plan of the steps that remain after `steps_done`."""
    num_steps = max(0, config.num_steps - steps_done)
    return Plan(
        num_parameters=count_parameters(model),
        num_table_parameters=_count_table_parameters(model),
        memory_bytes=estimate_memory(model, config),
        data=describe_data(config.sources),
        num_tokens=num_steps * config.tokens_per_step,
        num_steps=num_steps,
        seconds=num_steps * config.batches_per_step * seconds_per_batch,
    )


def estimate_memory(model: Decoder, config: RunConfig) -> int:
    """Estimate the peak of a step, in bytes: state, activations of one micro-batch, one chunk of logits.

    - State, fp32: parameters, gradients, and moments (AdamW keeps two numbers a parameter, Muon one a matrix).
    - A layer keeps for the backward pass, for each token, 8 vectors of D and 4 of F in the compute precision
      (inputs of the matrices, q, k, v, the gate's factors) and 2 of D in fp32 (inputs of the norms). Beside the
      layers, the backward pass of one is alive: as much as three of them keep.
    - A logit of the chunk costs 16 bytes (bf16, and fp32 steps of the softmax), 8 where they are compiled into one.

    Depth 8, 8,192 tokens, vocabulary 8,192, bf16: 1.22 GiB by this, 1.27 measured (compiled: 1.15 and 1.00).
    """
    total, tables = count_parameters(model), _count_table_parameters(model)
    num_moments = total + tables if config.optim.kind == "muon" else 2 * total
    shape: dict[str, int] = vars(model.config)
    d, f, v = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    kept_per_token = (8 * d + 4 * f) * (model.compute_dtype or model.dtype).itemsize + 2 * d * 4
    activations = config.tokens_per_batch * (len(model.blocks) + 3) * kept_per_token
    num_logits = min(config.tokens_per_batch, rows_per_chunk(v)) * v
    return 4 * (2 * total + num_moments) + activations + num_logits * (8 if config.compile else 16)


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


def _count_table_parameters(model: Decoder) -> int:
    """Of the embedding and the head, a tied matrix counted once."""
    return count_parameters(nn.ModuleList([model.embedding, model.head]))
