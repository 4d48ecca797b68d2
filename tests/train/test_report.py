"""Laws of train/report.py: it can be drawn and read whatever the run was."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from malmoi.train import report
from malmoi.train.preview import MaskedSample
from malmoi.train.report import draw_loss, running_mean, write_report


def row(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "tokens": 100 * step,
        "loss": 5 / step,
        "bits_per_byte": 8 / step,
        "tokens_per_second": 50.0,
        **more,
    }


def size_of(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


@pytest.mark.parametrize(
    "rows",
    [
        [row(1)],
        [row(1), row(2, bits_per_byte=None), row(3, held_out_bits_per_byte=2.5)],
        [row(n, held_out_bits_per_byte=9 / n) for n in range(1, 200)],
        [row(1, bits_per_byte=None)],
    ],
)
def test_any_curve_can_be_drawn(rows: list[dict[str, Any]]) -> None:
    assert size_of(draw_loss(rows)) == (1200, 675)


def test_labels_are_korean_too_where_a_font_has_hangul(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    monkeypatch.setattr(report, "KOREAN_FONTS", ("DejaVu Sans",))  # it has none, and says so for each label
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw_loss([row(1), row(2, held_out_bits_per_byte=2.5)])
    told = "".join(str(warning.message) for warning in caught)
    assert all(f"\\N{{HANGUL SYLLABLE {name}}}" in told for name in ("TO", "BA"))


def test_a_running_mean_of_a_constant_is_the_constant() -> None:
    assert running_mean([2.5] * 100) == pytest.approx([2.5] * 100)


def test_the_page_says_what_the_run_was_and_shows_what_it_learned(tmp_path: Path) -> None:
    rows = [row(1), row(2, held_out_bits_per_byte=2.25)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "run.json").write_text('{"sources": [{"format": "<b>{ko}</b>"}]}')
    pieces = (("<|im_start|>user\n", False), ("안녕<|im_end|>", True))
    write_report(
        tmp_path, num_parameters=12345, samples=[MaskedSample(pieces=pieces, num_learned=2, num_tokens=9)]
    )
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "12,345" in page
    assert "bits per byte 2.2500" in page
    assert "4 s" in page, "200 tokens at 50 a second"
    assert "&lt;|im_start|&gt;user\n<mark>안녕&lt;|im_end|&gt;</mark>" in page
    assert "&lt;b&gt;{ko}" in page, "settings are text, not markup"
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
