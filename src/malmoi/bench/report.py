"""All measurements of a model, each beside what the roofline of the same minute allows.

Place in the flow: `malmoi bench` gives a model, gets a `Report` after every round, and shows the last one with
`table.py` and `plot.py`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from malmoi.bench.machine import Machine, this_machine
from malmoi.bench.roofline import MatrixProducts, ReadStream, Roofline
from malmoi.bench.rounds import Spread, rounds
from malmoi.bench.work import Work, layer_shapes, step_work, stored
from malmoi.bench.workloads import Decode, Prefill
from malmoi.budget import on_paper, parameter_count
from malmoi.models import require_kind
from malmoi.nn.stack import Decoder

BANDWIDTH, MATRIX_RATE = "memory", "arithmetic"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One workload. `seconds` until the first token of a prompt, or of a step of decoding; `tokens` that this makes.

    `share` is the least time that the roofline allows, divided by the time that was measured in the same round.
    """

    name: str
    seconds: Spread
    tokens: int
    work: Work
    bound: Literal["memory", "arithmetic"]
    share: Spread

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds.median


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `num_rounds` rounds have said of a model.

    `bandwidth` in bytes a second, `matrix_rate` in operations a second, of the product `best_product`. `peak_bytes` is
    the most that the process has had in memory until everything ran once, the interpreter and its libraries included.
    """

    name: str
    precision: str
    num_parameters: int
    weight_bytes: int
    machine: Machine
    num_rounds: int
    bandwidth: Spread
    matrix_rate: Spread
    best_product: str
    rows: tuple[Row, ...]
    peak_bytes: int


def measure(
    name: str,
    model: Decoder,
    *,
    precision: str,
    prompts: Sequence[int],
    batches: Sequence[int],
    context: int,
    seconds: float,
    on_turn: Callable[[int, str], None] = lambda number, name: None,
) -> Iterator[Report]:
    """Measure for about `seconds`, and yield what is known after every round.

    Round 0, of which `on_turn` hears too, warms up: it fills the caches of the sequences that decode.
    Raises ConfigError for a prompt or a context that the model has no room for.
    """
    twin = require_kind(
        on_paper(model.config, model.compute_dtype or model.dtype), Decoder, for_what="a bench"
    )
    workloads: dict[str, Prefill | Decode] = {}
    works, tokens = {}, {}
    for length in prompts:
        row = f"prefill {length:,}"
        workloads[row], tokens[row] = Prefill(model, length), length
        works[row] = step_work(model, twin, batch=1, length=length, num_new=length)
    for batch in batches:
        row = f"decode batch {batch}"
        workloads[row], tokens[row] = Decode(model, batch=batch, context=context), batch
        works[row] = step_work(model, twin, batch=batch, length=context, num_new=1)
    for row, workload in workloads.items():
        on_turn(0, row)
        workload()
    peak_bytes = peak_memory()
    machine = this_machine()
    on_turn(0, BANDWIDTH)
    stream = ReadStream(machine.last_cache)
    on_turn(0, MATRIX_RATE)
    products = MatrixProducts(layer_shapes(twin), rows=max(prompts, default=512), dtype=twin.dtype)
    turns = {BANDWIDTH: stream, MATRIX_RATE: products, **workloads}
    so_far: list[dict[str, float]] = []
    for measured in rounds(turns, seconds=seconds, on_turn=on_turn):
        so_far.append(measured)
        yield Report(
            name=name,
            precision=precision,
            num_parameters=parameter_count(twin).total,
            weight_bytes=sum(tensor.nbytes for tensor in stored(model)),
            machine=machine,
            num_rounds=len(so_far),
            bandwidth=Spread.of(each[BANDWIDTH] for each in so_far),
            matrix_rate=Spread.of(each[MATRIX_RATE] for each in so_far),
            best_product=str(products.best),
            rows=tuple(_row(row, so_far, works[row], tokens[row]) for row in workloads),
            peak_bytes=peak_bytes,
        )


def _row(name: str, so_far: Sequence[dict[str, float]], work: Work, tokens: int) -> Row:
    rooflines = [Roofline(bandwidth=each[BANDWIDTH], matrix_rate=each[MATRIX_RATE]) for each in so_far]
    shares = [
        work.least_seconds(roofline) / each[name] for roofline, each in zip(rooflines, so_far, strict=True)
    ]
    middle = Roofline(
        bandwidth=Spread.of(each.bandwidth for each in rooflines).median,
        matrix_rate=Spread.of(each.matrix_rate for each in rooflines).median,
    )
    return Row(
        name=name,
        seconds=Spread.of(each[name] for each in so_far),
        tokens=tokens,
        work=work,
        bound=work.bound(middle),
        share=Spread.of(shares),
    )


def peak_memory() -> int:
    """The most bytes that this process has had in memory at a time, pages of mapped files included."""
    import resource

    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes_or_bytes * (1 if sys.platform == "darwin" else 1024)
