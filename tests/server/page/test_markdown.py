"""Markdown, formulas and code: text becomes elements, and HTML stays text."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from .browser import Tab
from .reader import ANSWER, answered, ask, until_count
from .stand_in import StandIn

pytestmark = pytest.mark.slow


def link(address: str, text: str) -> str:
    return f'<a href="{address}" target="_blank" rel="noopener noreferrer">{text}</a>'


MARKDOWN = [
    (
        "**굵게** *기울게* ~~지움~~ `코드`",
        "<p><strong>굵게</strong> <em>기울게</em> <s>지움</s> <code>코드</code></p>",
    ),
    ('**"강조"**는 **말(馬)**을', '<p><strong>"강조"</strong>는 <strong>말(馬)</strong>을</p>'),
    ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
    ("***둘 다***", "<p><strong><em>둘 다</em></strong></p>"),
    ("\\*그대로\\*", "<p>*그대로*</p>"),
    ("한 줄\n두 줄", "<p>한 줄<br>두 줄</p>"),
    ("## 제목 ##\n글", '<h4 class="h2">제목</h4><p>글</p>'),
    ("# C# \n글", '<h3 class="h1">C#</h3><p>글</p>'),
    ("- 가\n\n\n- 나", "<ul><li><p>가</p></li><li><p>나</p></li></ul>"),
    ('[이름](  https://a.b/ "제목" )', f"<p>{link('https://a.b/', '이름')}</p>"),
    ("# 제목\n글", '<h3 class="h1">제목</h3><p>글</p>'),
    ("- 가\n- 나\n\n글", "<ul><li><p>가</p></li><li><p>나</p></li></ul><p>글</p>"),
    ("- 가\n  1. 나\n  2. 다", "<ul><li><p>가</p><ol><li><p>나</p></li><li><p>다</p></li></ol></li></ul>"),
    ("3. 셋\n4. 넷", '<ol start="3"><li><p>셋</p></li><li><p>넷</p></li></ol>'),
    ("2026. 3. 1. 오늘", "<p>2026. 3. 1. 오늘</p>"),
    ("값은\n12. 이다", "<p>값은<br>12. 이다</p>"),
    ("> 인용\n> - 항목", "<blockquote><p>인용</p><ul><li><p>항목</p></li></ul></blockquote>"),
    ("가\n\n---\n\n나", "<p>가</p><hr><p>나</p>"),
    ("``` ` ```와 ``a`b``", "<p><code>`</code>와 <code>a`b</code></p>"),
    ("https://example.com/가 에서", f"<p>{link('https://example.com/', 'https://example.com/')}가 에서</p>"),
    ("[이름](https://a.b/c_(d))", f"<p>{link('https://a.b/c_(d)', '이름')}</p>"),
    (
        "| 가 | 나 |\n|:--|--:|\n| 1 | `a\\|b` |",
        '<div class="table" tabindex="0"><table><thead><tr><th class="start">가</th><th class="end">나</th></tr>'
        '</thead><tbody><tr><td class="start">1</td><td class="end"><code>a|b</code></td></tr></tbody></table></div>',
    ),
    ("값 | 뜻은 표가 아니다", "<p>값 | 뜻은 표가 아니다</p>"),
    ("<b onclick=alert(1)>굵게</b>", "<p>&lt;b onclick=alert(1)&gt;굵게&lt;/b&gt;</p>"),
    ("[누르기](javascript:alert(1))", '<p><span title="javascript:alert(1)">누르기</span></p>'),
    ("$5와 $6, 그리고 \\$7", "<p>$5와 $6, 그리고 $7</p>"),
    ("![그림](https://a.b/c.png)", f"<p>{link('https://a.b/c.png', '그림')}</p>"),
]

RENDER = """async ([text, isOpen]) => {
    const { MarkdownView } = await import("/page/markdown_view.js");
    const place = document.createElement("div");
    new MarkdownView(place).update(text, isOpen);
    return place.innerHTML;
}"""


def test_markdown_becomes_elements_and_html_stays_text(tab: Tab) -> None:
    shown = [tab.page.evaluate(RENDER, [text, False]) for text, _ in MARKDOWN]
    assert shown == [html for _, html in MARKDOWN]


def test_what_is_half_open_while_it_comes_is_shown_as_what_it_becomes(tab: Tab) -> None:
    assert tab.page.evaluate(RENDER, ["이것은 **굵", True]) == "<p>이것은 <strong>굵</strong></p>"
    assert tab.page.evaluate(RENDER, ["이것은 `코", True]) == "<p>이것은 <code>코</code></p>"
    assert tab.page.evaluate(RENDER, ["이것은 **굵", False]) == "<p>이것은 **굵</p>"
    code = tab.page.evaluate(RENDER, ["```python\nprint(1)\n\n# 주석", True])
    assert '\n\n<span class="comment"># 주석</span></code></pre>' in code


FORMULA = """async ([tex, isBlock]) => {
    const { formula } = await import("/page/math.js");
    const made = formula(tex, isBlock);
    made.removeAttribute("alttext");
    return made.innerHTML.replaceAll(' stretchy="true"', "").replaceAll(' stretchy="false"', "");
}"""


@pytest.mark.parametrize(
    ("tex", "mathml"),
    [
        (r"\frac{1}{2}x", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac><mi>x</mi>"),
        (r"x_i^2 - \alpha", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup><mo>−</mo><mi>α</mi>"),
        (
            r"\sum_{i=1}^n",
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>",
        ),
        (r"\sqrt[3]{2}", "<mroot><mrow><mn>2</mn></mrow><mrow><mn>3</mn></mrow></mroot>"),
        (r"f''(x)", "<msup><mi>f</mi><mo>′′</mo></msup><mo>(</mo><mi>x</mi><mo>)</mo>"),
        (r"\left( a \right.", "<mrow><mo>(</mo><mi>a</mi></mrow>"),
        (r"\text{넓이} = \mathbb{R}", "<mtext>넓이</mtext><mo>=</mo><mi>ℝ</mi>"),
        (r"\hat{y}", '<mover accent="true"><mrow><mi>y</mi></mrow><mo>^</mo></mover>'),
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            "<mrow><mo>(</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr>"
            "<mtr><mtd><mn>3</mn></mtd><mtd><mn>4</mn></mtd></mtr></mtable><mo>)</mo></mrow>",
        ),
        # What is not understood is shown as it was written.
        (r"\unknown{x}", r"\unknown{x}"),
        (r"\frac{1}", r"\frac{1}"),
        (r"x}", r"x}"),
        ("{" * 100_000, "{" * 100_000),
        (r"\hat" * 20_000, r"\hat" * 20_000),
        (r"\text{<b>}", "<mtext>&lt;b&gt;</mtext>"),
    ],
    ids=lambda text: text[:20],
)
def test_a_formula_becomes_mathml_or_stays_as_it_was_written(tab: Tab, tex: str, mathml: str) -> None:
    assert tab.page.evaluate(FORMULA, [tex, True]) == mathml


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("넓이는 $\\pi r^2$이다.", ["inline"]),
        ("\\(a\\)와 $$b$$와 \\[c\\]", ["inline"] * 3),
        ("앞\n\n$$\na\n\nb\n$$\n\n뒤", ["block"]),
        ("앞\n\\[ a \\]\n뒤", ["block"]),
        ("$5와 $6", []),
        ("`$a$`", []),
        ("$$\n열린", []),
    ],
)
def test_formulas_are_found_and_prices_are_not(tab: Tab, text: str, formulas: list[str]) -> None:
    html = tab.page.evaluate(RENDER, [text, False])
    assert [
        "block" if 'display="block"' in math else "inline" for math in html.split("<math ")[1:]
    ] == formulas


HIGHLIGHTED = """async ([code, language]) => {
    const { highlighted } = await import("/page/highlight.js");
    return highlighted(code, language).map((piece) => piece.kind ? [piece.kind, piece.text] : piece);
}"""


@pytest.mark.parametrize(
    ("language", "code", "pieces"),
    [
        ("python", "if 'a#' != 1: # 왜", [
            ["word", "if"], " ", ["string", "'a#'"], " != ", ["number", "1"], ": ", ["comment", "# 왜"],
        ]),
        ("js", "x / 2 // if", ["x / ", ["number", "2"], " ", ["comment", "// if"]]),
        ("SQL", "SELECT 1 -- '", [["word", "SELECT"], " ", ["number", "1"], " ", ["comment", "-- '"]]),
        ("rust", 'let s = "열린', [["word", "let"], " s = ", ["string", '"열린']]),
        ("", "if 1", ["if 1"]),
    ],
)  # fmt: skip
def test_code_is_tinted_by_what_its_pieces_are(tab: Tab, language: str, code: str, pieces: list[Any]) -> None:
    assert tab.page.evaluate(HIGHLIGHTED, [code, language]) == pieces


GROWING = """async (texts) => {
    const { MarkdownView } = await import("/page/markdown_view.js");
    const grown = document.createElement("div"), whole = document.createElement("div");
    const view = new MarkdownView(grown);
    for (const text of texts) for (let end = 0; end <= text.length; end++) view.update(text.slice(0, end), true);
    view.update(texts.at(-1), false);
    new MarkdownView(whole).update(texts.at(-1), false);
    return [grown.innerHTML, whole.innerHTML];
}"""


def test_text_that_came_letter_by_letter_ends_as_text_that_came_at_once(tab: Tab) -> None:
    grown, whole = tab.page.evaluate(GROWING, ["\n\n".join(text for text, _ in MARKDOWN)])
    assert grown == whole


def test_a_long_answer_of_unclosed_marks_is_read_in_a_moment(tab: Tab) -> None:
    timed = """async (text) => {
        const { blocks } = await import("/page/markdown.js");
        const start = performance.now();
        blocks(text);
        return performance.now() - start;
    }"""
    for text in (
        "**a " * 20_000,
        "`a" * 20_001,
        "[" * 20_000,
        "> " * 5_000,
        "- " * 5_000,
        "*a_" * 20_000,
        "$a \\\\(" * 9_000,
        "$$\n" * 9_001,
        "# a" + " " * 40_000 + "b",
        "#" + " " * 40_000 + "\u2028b",
        "```" + " " * 40_000 + "`",
        "a|b\n" + " " * 40_000 + "x",
        "` " + "a" * 40_000 + "`",
        "- a\n" + "\n" * 20_000 + "- b",
        "- a\n\n" * 10_000,
        "[a](" + " " * 20_000,
    ):
        assert tab.page.evaluate(timed, text) < 2000, text[:10]


def test_code_is_copied_as_it_is(open_tab: Callable[..., Tab], server: StandIn) -> None:
    tab = open_tab(permissions=["clipboard-read", "clipboard-write"])
    server.script = [["```\na  <b>\n\n한글\n```"]]
    ask(tab, "?")
    answered(tab)
    tab.page.click("figure button")
    tab.page.wait_for_selector("figure [aria-label='복사했습니다']")
    assert tab.page.evaluate("navigator.clipboard.readText()") == "a  <b>\n\n한글"


def test_what_the_browser_does_not_copy_is_told(tab: Tab, server: StandIn) -> None:
    server.script = [["```\n코드\n```"]]
    ask(tab, "?")
    answered(tab)
    denied = "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('denied')); }"
    tab.page.evaluate(denied)
    tab.page.click("figure button")
    assert "복사하지 못했습니다. Error: denied" in tab.page.wait_for_selector(".notice").inner_text()
    assert tab.page.locator("[aria-label='복사했습니다']").count() == 0


def test_what_has_been_shown_keeps_its_elements_while_more_comes(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["첫 문단\n\n둘째", rest, " 문단"]]
    ask(tab, "?")
    until_count(tab, f"{ANSWER} p", 2)
    tab.page.evaluate(f"document.querySelector('{ANSWER} p').dataset.mark = 'kept'")
    rest.set()
    answered(tab)
    assert tab.page.evaluate(f"document.querySelector('{ANSWER} p').dataset.mark") == "kept"
