"""A report as one web page that holds everything: the verdict, the picture and the tables; no script, nothing fetched.

Place in the flow: `report.py` -> `tables.py`, `plot.py` -> here. Read next: `tables.py`.
"""

import base64
import json
from html import escape

from malmoi.core.config import to_mapping
from malmoi.router.plot import draw
from malmoi.router.report import Report
from malmoi.router.tables import Table, tables

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.6 system-ui, "Noto Sans KR", sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
h2 small { font-weight: 400; opacity: .7 }
img { width: 100%; margin: 1rem 0; background: white }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem; border: 1px solid #8886; border-radius: .4rem }
"""


def as_html(report: Report, name: str) -> str:
    """The whole page about the router `name`."""
    picture = base64.b64encode(draw(report)).decode()
    manifest = json.dumps(to_mapping(report.manifest), indent=2, ensure_ascii=False)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}: Malmoi router report</title>
<style>{_STYLE}</style>
<h1>{escape(name)}</h1>
<p>{escape(report.verdict)}
<p lang="ko">
강한 모델에 보내는 비율에 따라 점수가 어떻게 달라지는지, 무작위로 보낼 때(chance)와 결과를 미리 알고 보낼 때(oracle)
사이에서 봅니다.
<img alt="score against share of strong calls, and calibration" src="data:image/png;base64,{picture}">
{"".join(map(_table, tables(report)))}
<h2>Manifest <small>라우터의 기록</small></h2>
<pre>{escape(manifest)}</pre>
</html>
"""


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}" for cell in table.header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in table.rows)
    title = f"<h2>{escape(table.title)} <small>{escape(table.korean)}</small></h2>"
    return f'{title}<div class="wide"><table><tr>{head}{body}</table></div>\n'
