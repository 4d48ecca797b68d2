"""An `Inspection` as a picture (SVG) and as a web page that holds everything: no script, nothing fetched.

Both follow the reader's choice of a light or a dark page. Read `inspection_text.py` first, whose rows these are.
"""

from collections.abc import Iterable
from html import escape

from malmoi.cli.inspection import Inspection, count
from malmoi.cli.inspection_text import count_rows, memory_rows, peak_rows
from malmoi.models.diagram import Column, Layers, Part, Sum

WIDTH, LINE, PADDING, GAP = 640, 20, 12, 22
STREAM = 34
"""Where the residual stream runs within a box of layers, in pixels from its left edge."""
STYLE = """
svg { --ink: #1c2530; --faint: #66727f; --line: #0b7285; --box: #ffffff; --group: #e8f4f6; --sum: #ffffff }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6ebf0; --faint: #94a1ae; --line: #4dc3d6; --box: #1d252e; --group: #152028; --sum: #10161c } }
text { font: 13px system-ui, "Noto Sans KR", sans-serif; fill: var(--ink) }
.name, .title { font-weight: 600 } .title { fill: var(--line) } .faint { fill: var(--faint) }
.box { fill: var(--box); stroke: var(--faint); stroke-opacity: .45 }
.group { fill: var(--group); stroke: var(--line) }
.stream { fill: none; stroke: var(--line); stroke-width: 2 }
.sum { fill: var(--sum); stroke: var(--line); stroke-width: 2 }
"""


def as_svg(found: Inspection) -> str:
    """The drawing: every stack top to bottom, the residual stream as a line, what is added to it beside it."""
    pieces: list[str] = []
    y = 8.0
    for column in found.columns:
        drawn, y = _column(column, y)
        pieces += [*drawn]
        y += GAP
    height = y - GAP + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(found.name)}">\n<style>{STYLE}</style>\n' + "\n".join(pieces) + "\n</svg>\n"
    )


def as_html(found: Inspection) -> str:
    """The whole page: the ideas, the drawing, the tables."""
    parent = f", which grew from {escape(found.grew_from)}" if found.grew_from else ""
    ideas = "".join(f"<li>{escape(idea)}" for idea in found.ideas)
    header = ["memory 메모리", *found.weights]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(found.name)}: Malmoi</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, "Noto Sans KR", sans-serif; max-width: 44rem; word-break: keep-all }}
body {{ margin: 2rem auto; padding: 0 1rem }}
h1 {{ margin: 0 }} h1 + p {{ margin: 0; opacity: .7 }}
table {{ border-collapse: collapse; width: 100%; margin: 1.5rem 0 }}
th, td {{ padding: .25rem 0; text-align: right; font-variant-numeric: tabular-nums; border-bottom: 1px solid #8883 }}
th:first-child, td:first-child {{ text-align: left; white-space: pre-wrap }}
svg {{ width: 100%; height: auto; margin: 1rem 0 }}
</style>
<h1>{escape(found.name)}</h1>
<p>The family {escape(found.model_type)}{parent}.
<ul>{ideas}</ul>
<p>Drawn from the modules as they run, top to bottom. 실제로 실행되는 모듈을 위에서 아래로 그렸습니다.
{as_svg(found)}
{_table(["parameters and work 매개변수와 계산량", ""], count_rows(found))}
{_table(header, memory_rows(found))}
{_table(["peak 최대 메모리", ""], peak_rows(found))}
</html>
"""


def _table(header: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(cell)}" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def _column(column: Column, y: float) -> tuple[list[str], float]:
    """The pieces of a stack that begins at `y`, and where it ends."""
    pieces = [f'<text class="title" x="2" y="{y + 12:.0f}">{escape(column.title)}</text>']
    y += LINE
    for index, item in enumerate(column.items):
        if index:
            pieces.append(f'<path class="stream" d="M{STREAM} {y:.0f} v{GAP}"/>')
            y += GAP
        drawn, y = (
            _layers(item, y) if isinstance(item, Layers) else _box(item, 1, WIDTH - 2, y, is_counted=True)
        )
        pieces += drawn
    return pieces, y


def _box(
    part: Part, x: float, width: float, y: float, *, is_counted: bool = False
) -> tuple[list[str], float]:
    height = LINE * max(1, len(part.details)) + PADDING
    pieces = [
        f'<rect class="box" x="{x}" y="{y:.0f}" width="{width}" height="{height}" rx="6"/>',
        _text(part.name, x + PADDING, y + LINE, "name"),
        *(_text(detail, x + 160, y + LINE * (n + 1)) for n, detail in enumerate(part.details)),
    ]
    if is_counted:
        number = count(part.num_parameters)
        pieces.append(_text(number, x + width - PADDING, y + LINE, "faint", anchor="end"))
    return pieces, y + height


def _text(text: str, x: float, y: float, kind: str = "", *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def _layers(layers: Layers, y: float) -> tuple[list[str], float]:
    top, inner = y, list[str]()
    times = f"{len(layers.numbers)} layers:" if len(layers.numbers) > 1 else "layer"
    y += LINE + PADDING
    start = y - PADDING
    for sublayer in layers.sublayers:
        drawn, y = _sublayer(sublayer, y)
        inner += drawn
    each = f"{count(layers.num_parameters)} each" if len(layers.numbers) > 1 else count(layers.num_parameters)
    frame = [
        f'<rect class="group" x="1" y="{top:.0f}" width="{WIDTH - 2}" height="{y - top:.0f}" rx="8"/>',
        _text(f"{times} {layers.ranges}", STREAM + 20, top + LINE, "title"),
        _text(each, WIDTH - PADDING - 1, top + LINE, "faint", anchor="end"),
        f'<path class="stream" d="M{STREAM} {start - LINE:.0f} V{y:.0f}"/>',
    ]
    return [*frame, *inner], y


def _sublayer(sublayer: Sum | Part, y: float) -> tuple[list[str], float]:
    """A branch off the stream and back into it; or a part that the stream runs through."""
    if isinstance(sublayer, Part):
        pieces, y = _box(sublayer, STREAM - 20, WIDTH - STREAM + 8, y)
        return pieces, y + PADDING
    x, width = STREAM + 46, WIDTH - STREAM - 46 - PADDING
    start, pieces = y, []
    for part in sublayer.inside:
        drawn, y = _box(part, x, width, y)
        pieces += drawn
        y += 6
    y += 6
    branch = f"M{STREAM} {start - 4:.0f} H{STREAM + 18} q8 0 8 8 V{y - 8:.0f} q0 8 -8 8 H{STREAM + 10}"
    pieces = [f'<path class="stream" d="{branch}"/>', *pieces]
    pieces.append(f'<circle class="sum" cx="{STREAM}" cy="{y:.0f}" r="9"/>')
    pieces.append(f'<path class="stream" d="M{STREAM - 4} {y:.0f} h8 M{STREAM} {y - 4:.0f} v8"/>')
    y += 9 + PADDING
    for part in sublayer.after:
        drawn, y = _box(part, STREAM - 20, WIDTH - STREAM + 8, y)
        pieces += drawn
        y += PADDING
    return pieces, y + 4
