"""What a run left to look at: the loss curve as a picture, and one page that holds everything.

Made of the files in `out` and the samples of `preview.py`, when the run is over.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from malmoi.core.errors import ConfigError, TrainingError
from malmoi.core.files import atomic_write, read_json, write_text
from malmoi.train.metrics import Row, read_metrics
from malmoi.train.plan import format_duration
from malmoi.train.preview import MaskedSample

# Fonts with Hangul that systems have; without one, labels are English only.
KOREAN_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")


def require_matplotlib() -> None:
    """Refuse before a run rather than after it. Raises ConfigError where the loss curve could not be drawn."""
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a run ends with a drawn loss curve, which needs the extra: pip install 'malmoi[train]'."
        )


def write_report(out: Path, *, num_parameters: int, samples: Sequence[MaskedSample]) -> None:
    """Write `loss.png` and `report.html` from `metrics.jsonl` and `run.json` of the run in `out`.

    Raises TrainingError if a file cannot be read or written.
    """
    rows = read_metrics(out / "metrics.jsonl")
    picture = draw_loss(rows)
    with atomic_write(out / "loss.png", error=TrainingError) as file:
        file.write_bytes(picture)
    run = read_json(out / "run.json", error=TrainingError)
    facts = {"parameters 매개변수": f"{num_parameters:,}", **_facts(rows)}
    write_text(out / "report.html", _page(out.name, facts, picture, samples, run), error=TrainingError)


def draw_loss(rows: Sequence[Row]) -> bytes:
    """The loss over tokens, as a PNG: each step faint, a running mean, the held-out points.

    In bits per byte where it is of text, else in nats a target.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.ticker import EngFormatter

    korean = next((font for font in KOREAN_FONTS if font in fontManager.get_font_names()), None)

    def label(english: str, hangul: str) -> str:
        return f"{english} {hangul}" if korean else english

    with mpl.rc_context({"font.family": [korean, "sans-serif"] if korean else "sans-serif"}):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        key = _unit(rows)
        unit = ("bits per byte", "바이트당 비트") if key == "bits_per_byte" else ("loss", "손실")
        axes.set(xlabel=label("tokens", "토큰"), ylabel=label(*unit))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        tokens, values = _curve(rows, key)
        axes.plot(tokens, values, color="#9db4c0", linewidth=0.7, label=label("each step", "걸음마다"))
        means = running_mean(values)
        axes.plot(tokens, means, color="#253237", linewidth=1.8, label=label("running mean", "이동 평균"))
        held_tokens, held = _curve(rows, f"held_out_{key}")
        if held:
            name = f"{label('held out', '따로 둔 글')}: {held[-1]:.3f}"
            axes.plot(held_tokens, held, "o-", color="#c1121f", markersize=4, label=name)
        if shown := [*values, *held]:
            # The first steps fall steeply; what comes then is what one wants to see.
            axes.set_ylim(top=1.02 * min(max(shown), 2 * min(shown) + 0.5))
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def running_mean(values: Sequence[float]) -> list[float]:
    """The exponential mean over a fiftieth of the curve, true from its first value on.

    >>> running_mean([4.0, 2.0])
    [4.0, 2.6666666666666665]
    """
    memory = 1 - 1 / (1 + max(1, len(values) / 50))
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = memory * total + value, memory * weight + 1
        means.append(total / weight)
    return means


def _curve(rows: Sequence[Row], key: str) -> tuple[list[int], list[float]]:
    """Tokens and values of the rows that have one."""
    found = [row for row in rows if row.get(key) is not None]
    return [row["tokens"] for row in found], [row[key] for row in found]


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    last = rows[-1]
    speeds = sorted(row["tokens_per_second"] for row in rows)
    tokens_per_step = last["tokens"] / last["step"]
    return {
        "steps 걸음": f"{last['step']:,}",
        "tokens 토큰": f"{last['tokens']:,}",
        "loss of the last step 마지막 손실": f"{last['loss']:.4f} a target",
        "held out 따로 둔 글": _held_out(rows),
        "speed, median 속도": f"{speeds[len(speeds) // 2]:,.0f} tokens a second",
        "time in steps 시간": format_duration(sum(tokens_per_step / speed for speed in speeds)),
    }


def _held_out(rows: Sequence[Row]) -> str:
    prefix = "held_out_"
    measured = [{key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)} for row in rows]
    return next((format_measured(numbers) for numbers in reversed(measured) if numbers), "not measured")


def format_measured(numbers: Mapping[str, float]) -> str:
    """Write what was measured of held-out texts on one line.

    >>> format_measured({"accuracy": 0.875, "count": 8})
    'accuracy 0.8750, count 8'
    """
    written = {
        key: f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for key, value in numbers.items()
    }
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in written.items())


def _unit(rows: Sequence[Row]) -> str:
    """The key of what the curve shows: bits per byte, if any step has them."""
    return "bits_per_byte" if any(row.get("bits_per_byte") is not None for row in rows) else "loss"


def _page(
    name: str,
    facts: dict[str, str],
    picture: bytes,
    samples: Sequence[MaskedSample],
    run: dict[str, Any],
) -> str:
    table = "".join(f"<tr><th>{html.escape(key)}<td>{html.escape(value)}" for key, value in facts.items())
    learned = "<h2>What is learned 배우는 곳</h2>\n" + "".join(map(_sample, samples)) if samples else ""
    settings = html.escape(json.dumps(run, indent=2, ensure_ascii=False))
    return f"""<!doctype html>
<html lang="ko"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(name)}: Malmoi training report</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
th {{ text-align: left; font-weight: normal; opacity: .7; padding-right: 2rem }}
td {{ font-variant-numeric: tabular-nums }}
img {{ width: 100%; margin: 1rem 0; background: white }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem; border: 1px solid #8886; border-radius: .4rem }}
mark {{ background: #2a9d4a44; color: inherit; border-radius: .2rem }}
</style>
<h1>{html.escape(name)}</h1>
<p>Training report 학습 보고서
<table>{table}</table>
<img alt="bits per byte over tokens" src="data:image/png;base64,{base64.b64encode(picture).decode()}">
{learned}
<h2>Settings 설정</h2>
<pre>{settings}</pre>
</html>
"""


def _sample(sample: MaskedSample) -> str:
    text = "".join(
        f"<mark>{html.escape(piece)}</mark>" if is_learned else html.escape(piece)
        for piece, is_learned in sample.pieces
    )
    return (
        f"<pre>{text}</pre>\n<p>The {sample.num_learned} marked tokens of {sample.num_tokens} are targets.\n"
    )
