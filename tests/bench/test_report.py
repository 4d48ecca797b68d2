"""Workloads through the engine, and what is reported of them."""

import doctest
import importlib
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from malmoi.bench.plot import draw_roofline
from malmoi.bench.report import Report, measure
from malmoi.bench.rounds import FEWEST
from malmoi.bench.table import as_table
from malmoi.bench.workloads import NUM_STEPS, Decode, Prefill, Prompts
from malmoi.core.errors import ConfigError
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_llava, tiny_lstm


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return list(
        measure(
            "tiny", tiny_llama(), precision="fp32", prompts=[16, 32], batches=[1, 2], context=8, seconds=0
        )
    )


def test_there_is_a_report_after_every_round(reports: list[Report]) -> None:
    assert [report.num_rounds for report in reports] == list(range(1, FEWEST + 1))


def test_each_workload_has_a_row_within_its_limit(reports: list[Report]) -> None:
    rows = reports[-1].rows
    assert [row.name for row in rows] == ["prefill 16", "prefill 32", "decode batch 1", "decode batch 2"]
    for row in rows:
        assert 0 < row.share.low <= row.share.median <= row.share.high < 1, (
            row
        )  # no tiny model is at its limit
        assert row.tokens_per_second == row.tokens / row.seconds.median
    assert reports[-1].peak_bytes > reports[-1].weight_bytes > 0


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_lstm, tiny_llava])
def test_any_decoder_can_be_measured(make: Callable[[], Decoder]) -> None:
    [report, *_] = measure("tiny", make(), precision="fp32", prompts=[8], batches=[2], context=8, seconds=0)
    assert [row.share.median > 0 for row in report.rows] == [True, True]


def test_the_table_fits_eighty_columns_and_has_every_row(reports: list[Report]) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(as_table(reports[-1]))
    shown = console.export_text()
    for word in ("tiny: 0.0 M parameters, fp32", "GB/s", "TFLOP/s", *(row.name for row in reports[-1].rows)):
        assert word in shown
    assert "…" not in shown


def test_the_picture_is_a_png(reports: list[Report]) -> None:
    assert draw_roofline(reports[0]).startswith(b"\x89PNG")


def test_a_prompt_is_never_known_from_the_time_before() -> None:
    prompts = Prompts(tiny_llama())
    assert len({tuple(prompts.draw(16)) for _ in range(50)}) == 50
    assert Prefill(tiny_llama(), 16)() > 0


def test_sequences_that_decode_grow_and_begin_anew_when_there_is_no_more_room() -> None:
    decode = Decode(tiny_llama(max_positions=8 + 2 * NUM_STEPS + 1), batch=2, context=8)
    lengths = []
    for _ in range(4):
        assert decode() > 0
        lengths.append([len(generation.ids) for generation in decode.generations])
    once, twice = 8 + NUM_STEPS, 8 + 2 * NUM_STEPS
    assert lengths == [[once] * 2, [twice] * 2, [once] * 2, [twice] * 2]


def test_all_sequences_of_a_batch_decode_whoever_came_first() -> None:
    decode = Decode(tiny_llama(max_positions=300), batch=8, context=200)
    for _ in range(12):
        decode()
        assert all(generation.finish_reason is None for generation in decode.generations)
        assert min(len(generation.ids) for generation in decode.generations) >= 200 + NUM_STEPS


@pytest.mark.parametrize(
    "broken", [lambda: Prefill(tiny_llama(), 128), lambda: Decode(tiny_llama(), batch=1, context=126)]
)
def test_what_the_model_has_no_room_for_is_refused(broken: object) -> None:
    with pytest.raises(ConfigError, match=r"128 positions of this model. Ask for a shorter"):
        broken()  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", ["machine", "rounds", "roofline", "work", "subject", "workloads", "report", "table", "plot"]
)
def test_docstring_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"malmoi.bench.{name}")).failed == 0
