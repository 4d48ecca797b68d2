"""A comparison as one web page that holds everything: no script, nothing fetched, in light and dark, on a phone too.

    comparison.py -> tables.py, bill.py -> PAGE

Every token has a colour, and shows its id and bytes under the pointer or, on a phone, where it is touched. A syllable
that is cut into several tokens stands before its pieces.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape

from malmoi.text.hangul import TRAILING, VOWELS
from malmoi.text.microscope.bill import bill_table, exchange_note, price_sources, price_table
from malmoi.text.microscope.comparison import Comparison, Piece
from malmoi.text.microscope.measures import MEASURES
from malmoi.text.microscope.tables import (
    Table,
    border_table,
    genre_table,
    material_table,
    morpheme_note,
    text_table,
    token_table,
)

_NUM_COLOURS = 5
_GOES_ON = re.compile(f"[{VOWELS}{TRAILING}]")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --faint: #5d6975; --page: #fff; --line: #d5dbe1; --good: #0b6b3a;
  --t0: #cfe8ff; --t1: #ffe2b8; --t2: #cdeecb; --t3: #f6d3e6; --t4: #e1d8fb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --faint: #98a5b2; --page: #12181e; --line: #313b45; --good: #6fd39b;
    --t0: #174a73; --t1: #6a4a12; --t2: #1f5a2c; --t3: #6a2a4e; --t4: #463a7c } }
* { box-sizing: border-box }
body { font: 16px/1.6 system-ui, "Noto Sans KR", sans-serif; color: var(--ink); background: var(--page);
  max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; word-break: keep-all; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
h2 small, p, li { color: var(--faint); font-weight: 400 } h3 { font-size: 1rem; margin: 1.75rem 0 .25rem }
dl { display: grid; grid-template-columns: minmax(6rem, 11rem) 1fr; gap: .6rem 1rem; margin: .5rem 0 }
dt { font-size: .85rem; padding-top: .2rem } dt span { color: var(--faint); white-space: nowrap }
dd { margin: 0; white-space: pre-wrap; line-height: 2 }
.t { padding: .15em 0; border-radius: .2em; cursor: help }
.t:focus { outline: 2px solid var(--ink) }
.t:focus::after { content: attr(title); position: fixed; inset: auto 0 0 0; padding: .7rem 1rem; z-index: 1;
  background: var(--ink); color: var(--page); font: 14px/1.4 ui-monospace, monospace }
.cut { white-space: nowrap; border-bottom: 2px solid var(--line) } .cut .t { font: .68em ui-monospace, monospace;
  padding: .25em .3em; margin-left: 1px; vertical-align: .15em }
.k0 { background: var(--t0) } .k1 { background: var(--t1) } .k2 { background: var(--t2) } .k3 { background: var(--t3) }
.k4 { background: var(--t4) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; vertical-align: bottom }
tr > * { border-bottom: 1px solid var(--line) }
th { font-weight: 600; font-size: .8rem; min-width: 4.5rem; overflow-wrap: normal }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page) }
td:first-child { font-weight: 600; white-space: nowrap }
b { color: var(--good) } .cut b { color: inherit; font-weight: 400 }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0 } dt { margin-top: .5rem }
  td:first-child { white-space: normal; min-width: 7rem } }
"""


def as_html(comparison: Comparison) -> str:
    """The whole page: sentences in colour, the figures, the bill, and what all of it was measured on."""
    names = ", ".join(one.name for one in comparison.tokenizers)
    sentences = "".join(
        _sentence(comparison, genre, text) for genre, text in comparison.material.sentences.items()
    )
    summary = (text_table(comparison), token_table(comparison), border_table(comparison))
    is_one = len(comparison.material.genres) == 1  # whose tables the summary has
    by_genre = () if is_one else tuple(genre_table(comparison, measure) for measure in MEASURES)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(names)}: Malmoi</title>
<style>{_STYLE}</style>
<h1>{escape(names)}</h1>
<p>The same text through {len(comparison.tokenizers)} tokenizers. Point at a token, or touch it, for its id and bytes.
같은 글을 토크나이저마다 이렇게 자릅니다. 토큰을 가리키거나 누르면 번호와 바이트가 보입니다.
{sentences}
{"".join(map(_table, summary))}
<p>{escape(morpheme_note(comparison))}
{"".join(map(_table, by_genre))}
{_table(bill_table(comparison))}
<p>{escape(exchange_note(comparison))}. Prices are examples of the day they name: check them.
값은 적힌 날짜의 예입니다. 쓰기 전에 확인하세요.
{_table(price_table(comparison))}
<ul>{"".join(f"<li>{escape(source)}" for source in price_sources(comparison))}</ul>
{_table(material_table(comparison))}
</html>
"""


def _sentence(comparison: Comparison, genre: str, text: str) -> str:
    lines = []
    for one in comparison.tokenizers:
        pieces = one.sentences[genre]
        lines.append(
            f'<dt>{escape(one.name)} <span>{len(pieces)} tokens</span><dd lang="ko">{_coloured(pieces)}'
        )
    return f'<h3>{escape(genre)}</h3><p lang="ko">{escape(text)}</p><dl>{"".join(lines)}</dl>\n'


def _coloured(pieces: Sequence[Piece]) -> str:
    colour, spans = 0, list[str]()
    for run in _runs(pieces):
        tokens = []
        for piece in run:
            title = f"id {piece.token}: {piece.bytes.hex(' ') or 'no bytes'}"
            label = escape(_label(piece)) or "∅"
            tokens.append(f'<span class="t k{colour}" tabindex="-1" title="{title}">{label}</span>')
            colour = (colour + 1) % _NUM_COLOURS
        joined = "".join(tokens)
        whole = unicodedata.normalize("NFC", b"".join(piece.bytes for piece in run).decode(errors="replace"))
        spans.append(joined if len(run) == 1 else f'<span class="cut"><b>{escape(whole)}</b>{joined}</span>')
    return "".join(spans)


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Tokens one by one, but together where only together they are whole characters, and whole syllables of jamo."""
    run: list[Piece] = []
    for piece in pieces:
        if run and _text(run) is not None and not _GOES_ON.match(_text([piece]) or ""):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _text(run: Sequence[Piece]) -> str | None:
    """The text of the tokens, or None if they are no whole characters."""
    try:
        return b"".join(piece.bytes for piece in run).decode()
    except UnicodeDecodeError:
        return None


def _label(piece: Piece) -> str:
    text = _text([piece])
    return piece.bytes.hex(" ") if text is None else text


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}" for cell in table.header)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td><b>{escape(cell)}</b>" if (row, column) in table.best else f"<td>{escape(cell)}"
            for column, cell in enumerate(cells)
        )
        for row, cells in enumerate(table.rows)
    )
    title = f"<h2>{escape(table.title)} <small>{escape(table.korean)}</small></h2>"
    return f'{title}<div class="wide"><table><tr>{head}{body}</table></div>\n'
