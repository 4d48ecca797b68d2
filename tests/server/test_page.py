"""The chat page in a real browser: what a reader does, and what the server is asked then."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Tab, launched
from .stand_in import PAGE, Refusal, StandIn, chunk, running

pytestmark = pytest.mark.slow

QUESTION = "#question"
ANSWER = ".message.assistant:last-child .body"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[StandIn]:
    with running() as server:
        yield server


@pytest.fixture
def open_tab(browser: Any, server: StandIn) -> Iterator[Callable[..., Tab]]:
    """Opens the page as often as a test likes. Whatever the page logs as an error fails the test."""
    tabs: list[Tab] = []

    def opened(**options: Any) -> Tab:
        tabs.append(Tab(browser, server.url, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
        assert tab.errors == []


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()


def ask(tab: Tab, text: str) -> None:
    tab.page.fill(QUESTION, text)
    tab.page.press(QUESTION, "Enter")


def answered(tab: Tab) -> str:
    """The last answer's text, when it is whole."""
    tab.page.wait_for_selector(".message.assistant:last-child:not(.open)")
    text: str = tab.page.inner_text(ANSWER)
    return text


def until_shown(tab: Tab, text: str, selector: str = ANSWER) -> None:
    tab.until(f"document.querySelector({selector!r})?.innerText", text)


def until_count(tab: Tab, selector: str, count: int) -> None:
    tab.until(f"document.querySelectorAll({selector!r}).length", count)


def asked(server: StandIn) -> list[str]:
    """The last message of each request."""
    return [body["messages"][-1]["content"] for body in server.asked]


# Chat


def test_an_answer_appears_as_it_comes(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["안녕", rest, "하세요"]]
    ask(tab, "안녕?")
    until_shown(tab, "안녕")
    rest.set()
    assert answered(tab) == "안녕하세요"
    assert tab.page.input_value(QUESTION) == ""
    assert server.asked == [
        {
            "model": "malmoi",
            "messages": [{"role": "user", "content": "안녕?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_a_syllable_that_the_network_cuts_arrives_whole(tab: Tab, server: StandIn) -> None:
    event = f"data: {json.dumps(chunk(content='한글'), ensure_ascii=False)}\r\n\r\n".encode()
    server.script = [[piece for at in range(len(event)) for piece in (event[at : at + 1], 0.001)]]
    ask(tab, "?")
    assert answered(tab) == "한글"


def test_the_next_question_goes_with_the_conversation(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"]]
    ask(tab, "일?")
    answered(tab)
    ask(tab, "이?")
    answered(tab)
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": "일?"},
        {"role": "assistant", "content": "하나"},
        {"role": "user", "content": "이?"},
    ]


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stopping_ends_the_request_and_keeps_what_came(tab: Tab, server: StandIn, how: str) -> None:
    server.script = [["여기까지", threading.Event()]]
    ask(tab, "길게")
    until_shown(tab, "여기까지")
    if how == "button":
        tab.page.click("#stop")
    else:
        tab.page.keyboard.press("Escape")
    assert answered(tab) == "여기까지"
    assert "여기서 멈췄습니다" in tab.page.inner_text(".message.assistant .status")
    assert server.hung_up.wait(5)


def test_a_question_waits_while_an_answer_is_under_way(tab: Tab, server: StandIn) -> None:
    server.script = [["음", threading.Event()]]
    ask(tab, "첫째")
    until_shown(tab, "음")
    ask(tab, "둘째")
    assert tab.page.input_value(QUESTION) == "둘째"
    assert asked(server) == ["첫째"]


def test_a_refusal_is_shown_in_the_servers_words_and_can_be_tried_again(tab: Tab, server: StandIn) -> None:
    server.script = [Refusal(400, "top_p=1.5 is out of range."), ["됐다"]]
    ask(tab, "?")
    alert = tab.page.wait_for_selector(".message [role=alert]")
    assert "top_p=1.5 is out of range." in alert.inner_text()
    tab.errors.clear()  # the browser's own line about the status
    tab.page.click(".message.assistant .status button")
    assert answered(tab) == "됐다"
    assert tab.page.locator(".branches").count() == 0, "an answer that never was is no branch"
    assert server.asked[0] == server.asked[1]


def test_a_question_that_got_no_answer_is_not_told_to_the_model_again(tab: Tab, server: StandIn) -> None:
    server.script = [Refusal(400, "no"), ["네"]]
    ask(tab, "첫째")
    tab.page.wait_for_selector(".message [role=alert]")
    tab.errors.clear()
    ask(tab, "둘째")
    assert answered(tab) == "네"
    assert server.asked[1]["messages"] == [{"role": "user", "content": "둘째"}]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [({"error": {"message": "out of blocks"}}, "out of blocks"), (None, "서버에 연결할 수 없습니다")],
    ids=["error", "hung up"],
)
def test_an_answer_that_breaks_off_stays_and_says_so(
    tab: Tab, server: StandIn, ending: Any, reason: str
) -> None:
    server.script = [["반쯤", ending]]
    ask(tab, "?")
    alert = tab.page.wait_for_selector(".message [role=alert]").inner_text()
    assert tab.page.inner_text(ANSWER) == "반쯤"
    assert "답변이 중간에 끊겼습니다." in alert
    assert reason in alert


def test_a_server_that_is_gone_is_named_as_the_reason(tab: Tab, server: StandIn) -> None:
    tab.page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(tab, "?")
    assert "서버에 연결할 수 없습니다" in tab.page.wait_for_selector(".message [role=alert]").inner_text()
    tab.errors.clear()


# Korean and the Enter key


def press_enter_while_composing(tab: Tab, *, shift: bool = False) -> None:
    tab.key("keyDown", "Enter", code="Enter", number=229, shift=shift)


def second_keydown(tab: Tab, *, shift: bool = False) -> None:
    tab.key("keyDown", "Enter", code="Enter", number=13, shift=shift)


def release_enter(tab: Tab) -> None:
    tab.key("keyUp", "Enter", code="Enter", number=13)


def test_the_browser_tells_of_a_composition_in_the_order_that_the_composer_is_written_for(
    tab: Tab, server: StandIn
) -> None:
    server.script = [["네"]]
    tab.page.evaluate(
        """() => {
            window.seen = [];
            for (const name of ["keydown", "compositionupdate", "compositionend", "input", "keyup"]) {
                document.getElementById("question").addEventListener(name, (event) => {
                    const isKey = name.startsWith("key");
                    window.seen.push(isKey ? `${name} ${event.keyCode} ${event.isComposing}` : name);
                });
            }
        }"""
    )
    tab.compose("ㅇ", "아", "안")
    press_enter_while_composing(tab)
    tab.commit("안")
    release_enter(tab)
    seen = tab.page.evaluate("window.seen")
    assert seen.index("keydown 229 true") < seen.index("compositionend") < seen.index("keyup 13 false")
    assert "input" in seen


@pytest.mark.parametrize("system", ["windows", "macos", "early"])
def test_one_enter_commits_the_syllable_and_sends_once(tab: Tab, server: StandIn, system: str) -> None:
    server.script = [["네"], ["또"]]
    tab.page.focus(QUESTION)
    tab.compose("ㅇ", "아", "안")
    tab.commit("안")
    tab.compose("ㄴ", "녀", "녕")
    press_enter_while_composing(tab)
    if system == "early":  # the clean key comes before the end of the composition
        second_keydown(tab)
    tab.commit("녕")
    if system == "macos":
        second_keydown(tab)
    release_enter(tab)
    assert answered(tab) == "네"
    tab.page.wait_for_timeout(50)
    assert asked(server) == ["안녕"]
    assert tab.page.input_value(QUESTION) == ""
    # and the next message is typed and sent as if nothing had been.
    tab.compose("ㄴ", "네")
    press_enter_while_composing(tab)
    tab.commit("네")
    release_enter(tab)
    until_count(tab, ".message", 4)
    assert asked(server) == ["안녕", "네"]


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_shift_and_enter_while_composing_is_one_new_line(tab: Tab, server: StandIn, system: str) -> None:
    tab.page.focus(QUESTION)
    tab.compose("ㄴ", "네")
    press_enter_while_composing(tab, shift=True)
    tab.commit("네")
    if system == "macos":
        second_keydown(tab, shift=True)
    release_enter(tab)
    tab.until(f"document.querySelector({QUESTION!r}).value", "네\n")
    tab.compose("ㅇ", "아")
    tab.commit("아")
    assert tab.page.input_value(QUESTION) == "네\n아"
    assert server.asked == []


def test_shift_and_enter_is_a_new_line(tab: Tab, server: StandIn) -> None:
    tab.page.focus(QUESTION)
    tab.page.keyboard.type("a")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("b")
    assert tab.page.input_value(QUESTION) == "a\nb"
    assert server.asked == []


@pytest.mark.parametrize(
    ("composed", "committed"),
    [
        (["に", "にほ", "にほん", "日本"], "日本"),
        (["にほん"], "にほん"),
        (["n", "ni", "nihao"], "你好"),
        (["n", "ni"], "ni"),
        (["ㄋ", "ㄋㄧ"], "你"),
        (["한", "韓"], "韓"),
        (["한"], "韓"),
    ],
    ids=["kanji", "kana", "pinyin", "letters", "zhuyin", "hanja shown", "hanja at the end"],
)
@pytest.mark.parametrize("system", ["windows", "macos"])
def test_an_enter_that_chooses_a_candidate_never_sends(
    tab: Tab, server: StandIn, composed: list[str], committed: str, system: str
) -> None:
    server.script = [["네"]]
    tab.page.focus(QUESTION)
    tab.compose(*composed)
    press_enter_while_composing(tab)
    tab.commit(committed)
    if system == "macos":
        second_keydown(tab)
    release_enter(tab)
    tab.page.wait_for_timeout(50)
    assert tab.page.input_value(QUESTION) == committed
    assert server.asked == []
    tab.page.keyboard.press("Enter")
    answered(tab)
    assert asked(server) == [committed]


@pytest.mark.parametrize(
    ("key", "code"), [("Process", "Lang2"), ("Process", "F9"), ("Process", "ArrowDown"), ("HanjaMode", "")]
)
def test_an_enter_in_a_list_of_hanja_never_sends_though_hangul_stays(
    tab: Tab, server: StandIn, key: str, code: str
) -> None:
    tab.page.focus(QUESTION)
    tab.compose("한")
    tab.key("keyDown", key, code=code, number=229)
    press_enter_while_composing(tab)
    tab.commit("한")
    release_enter(tab)
    tab.page.wait_for_timeout(50)
    assert tab.page.input_value(QUESTION) == "한"
    assert server.asked == []


COMPOSER = """async (events) => {
    const { Composer } = await import("/page/composer.js");
    const composer = new Composer();
    const done = [];
    for (const [name, event] of events) {
        const { does, prevent } = composer[name]({ key: "", code: "", data: "", ...event });
        done.push(does ?? (prevent ? "held back" : null));
    }
    return done;
}"""
ENTER = {"key": "Enter", "code": "Enter", "keyCode": 13}
TAKEN = {**ENTER, "keyCode": 229}


@pytest.mark.parametrize(
    ("events", "done"),
    [
        # Safari ends the composition first, and says so of the key by its number only.
        ([("compositionend", {"data": "녕"}), ("keydown", TAKEN), ("keyup", ENTER)], [None, "send", None]),
        ([("compositionend", {"data": "日本"}), ("keydown", TAKEN), ("keyup", ENTER)], [None, None, None]),
        # Half a minute of holding Enter down is one message.
        ([("keydown", ENTER), *[("keydown", {**ENTER, "repeat": True})] * 2], ["send", *["held back"] * 2]),
        # An input method that commits by itself and then breaks the line.
        (
            [
                ("compositionupdate", {"data": "녕"}),
                ("keydown", TAKEN),
                ("compositionend", {"data": "녕"}),
                ("beforeinput", {"inputType": "insertLineBreak"}),
                ("beforeinput", {"inputType": "insertText"}),
            ],
            [None, None, "send", "held back", None],
        ),
        # One that empties what is composed and then inserts it.
        (
            [
                ("compositionupdate", {"data": "녕"}),
                ("keydown", TAKEN),
                ("compositionupdate", {"data": ""}),
                ("compositionend", {"data": ""}),
            ],
            [None, None, None, "send"],
        ),
        # The Enter did something else: the composition goes on.
        (
            [
                ("compositionupdate", {"data": "녀"}),
                ("keydown", TAKEN),
                ("compositionupdate", {"data": "녕"}),
                ("compositionend", {"data": "녕"}),
            ],
            [None] * 4,
        ),
        # A key that was let go elsewhere holds back nothing for ever.
        ([("keydown", ENTER), ("blur", {}), ("keydown", ENTER)], ["send", None, "send"]),
        ([("keydown", ENTER), ("keydown", {"key": "a"}), ("keydown", ENTER)], ["send", None, "send"]),
        # A conversion that shows at its end only.
        (
            [("compositionupdate", {"data": "한"}), ("keydown", TAKEN), ("compositionend", {"data": "韓"})],
            [None] * 3,
        ),
        # Option+Enter is the Hanja key of macOS.
        (
            [
                ("compositionupdate", {"data": "한"}),
                ("keydown", {**TAKEN, "altKey": True}),
                ("keydown", TAKEN),
                ("compositionend", {"data": "한"}),
            ],
            [None] * 4,
        ),
        ([("keydown", {**ENTER, "ctrlKey": True, "shiftKey": True})], ["send"]),
    ],
)
def test_the_composer_alone_knows_every_order_of_events(tab: Tab, events: list[Any], done: list[Any]) -> None:
    assert tab.page.evaluate(COMPOSER, events) == done


def test_an_edit_is_composed_by_the_same_rules(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"]]
    ask(tab, "처음")
    answered(tab)
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "")
    tab.compose("ㄴ", "네")
    press_enter_while_composing(tab)
    tab.commit("네")
    second_keydown(tab)
    release_enter(tab)
    until_shown(tab, "네", ".message.user .body")
    assert answered(tab) == "둘"
    assert asked(server) == ["처음", "네"]


# Markdown


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


def test_what_has_been_shown_keeps_its_elements_while_more_comes(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["첫 문단\n\n둘째", rest, " 문단"]]
    ask(tab, "?")
    until_count(tab, f"{ANSWER} p", 2)
    tab.page.evaluate(f"document.querySelector('{ANSWER} p').dataset.mark = 'kept'")
    rest.set()
    answered(tab)
    assert tab.page.evaluate(f"document.querySelector('{ANSWER} p').dataset.mark") == "kept"


# Branches


def test_a_new_answer_and_an_edit_are_branches_and_arrows_lead_back(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"], ["셋"]]
    ask(tab, "물음")
    answered(tab)
    tab.page.click("[aria-label='다시 답하기']")
    until_shown(tab, "둘")
    assert answered(tab) == "둘"
    assert tab.page.inner_text(".message.assistant .branches").strip() == "2/2"
    tab.page.click(".message.assistant [aria-label='이전 갈래']")
    assert tab.page.inner_text(ANSWER) == "하나"

    tab.page.hover(".message.user")
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "고친 물음")
    tab.page.press(".edit textarea", "Enter")
    until_shown(tab, "셋")
    assert server.asked[2]["messages"] == [{"role": "user", "content": "고친 물음"}]
    tab.page.click(".message.user [aria-label='이전 갈래']")
    assert tab.page.inner_text(".message.user .body") == "물음"
    assert tab.page.inner_text(ANSWER) == "하나"


def test_an_edit_can_be_called_off(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"]]
    ask(tab, "물음")
    answered(tab)
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "아니")
    tab.page.keyboard.press("Escape")
    assert tab.page.inner_text(".message.user .body") == "물음"
    assert len(server.asked) == 1


# Side by side


def test_two_models_answer_side_by_side_and_the_chat_goes_on_from_the_one_that_is_taken(
    tab: Tab, server: StandIn
) -> None:
    server.script = [["하나"], ["둘"], ["셋"], ["넷"]]
    open_settings(tab)
    tab.page.locator(".field", has_text="나란히 비교할 모델").locator("select").select_option("other")
    tab.page.keyboard.press("Escape")
    ask(tab, "물음")
    tab.until("document.querySelectorAll('.beside .message:not(.open)').length", 2)
    assert sorted(body["model"] for body in server.asked) == ["malmoi", "other"]
    other = tab.page.locator(".beside .other")
    taken = other.locator(".body").inner_text()
    assert "other" in other.locator(".stats").inner_text()
    other.locator("text=이 답으로 이어 가기").click()
    ask(tab, "다음")
    tab.until("document.querySelectorAll('.beside .message:not(.open)').length", 4)
    assert all(body["messages"][1]["content"] == taken for body in server.asked[2:])


def test_stopping_stops_both(tab: Tab, server: StandIn) -> None:
    server.script = [["하나", threading.Event()], ["둘", threading.Event()]]
    tab.page.evaluate("localStorage.setItem('malmoi.other', '\"other\"')")
    ask(tab, "물음")
    tab.until(
        "[...document.querySelectorAll('.beside .body')].map(({ innerText }) => innerText).sort()",
        ["둘", "하나"],
    )
    tab.page.keyboard.press("Escape")
    tab.until("document.querySelectorAll('.beside .status:not([hidden])').length", 2)


def test_answers_under_two_settings_can_be_laid_side_by_side(tab: Tab, server: StandIn) -> None:
    server.script = [["차갑게"], ["뜨겁게"]]
    ask(tab, "물음")
    answered(tab)
    open_settings(tab)
    field(tab, "temperature").fill("1.5")
    tab.page.keyboard.press("Escape")
    tab.page.click("[aria-label='다시 답하기']")
    until_shown(tab, "뜨겁게")
    tab.page.click("[aria-label='갈래를 나란히 보기']")
    assert tab.page.locator(".beside .body").all_inner_texts() == ["차갑게", "뜨겁게"]
    assert "temperature=1.5" in tab.page.locator(".beside .stats").nth(1).inner_text()
    tab.page.click("[aria-label='한 갈래만 보기'] >> nth=0")
    assert tab.page.locator(".message.assistant .body").all_inner_texts() == ["뜨겁게"]


# Settings


def open_settings(tab: Tab) -> None:
    tab.page.click("#open-settings")
    tab.page.wait_for_selector("#settings[open]")


def row(tab: Tab, name: str) -> Any:
    return tab.page.locator(".field", has=tab.page.locator(f"code:text-is('{name}')"))


def field(tab: Tab, name: str) -> Any:
    return row(tab, name).locator("input, textarea, select")


def test_only_what_is_set_is_sent(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    open_settings(tab)
    tab.page.fill("#settings textarea >> nth=0", "짧게 답해.")
    field(tab, "temperature").fill("0.5")
    field(tab, "stop").fill("끝\n\n그만")
    field(tab, "script_lock").select_option("hangul,han")
    tab.page.click("#settings summary")
    field(tab, "logit_bias").fill("12: -100\n7: 1.5")
    field(tab, "ignore_eos").check()
    field(tab, "top_k").fill("40")
    field(tab, "top_k").fill("")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    (body,) = server.asked
    assert body["messages"][0] == {"role": "system", "content": "짧게 답해."}
    for name in ("model", "messages", "stream", "stream_options"):
        del body[name]
    assert body == {
        "temperature": 0.5,
        "stop": ["끝", "그만"],
        "script_lock": ["hangul", "han"],
        "logit_bias": {"12": -100, "7": 1.5},
        "ignore_eos": True,
    }


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [("top_p", "1.5", "0~1"), ("seed", "1.5", "정수"), ("temperature", "뜨겁게", "0~2")],
)
def test_a_value_that_means_nothing_is_refused_where_it_is_typed(
    tab: Tab, server: StandIn, name: str, text: str, problem: str
) -> None:
    open_settings(tab)
    field(tab, name).fill(text)
    assert problem in row(tab, name).locator("[role=alert]").inner_text()
    assert field(tab, name).get_attribute("aria-invalid") == "true"


def test_every_parameter_is_explained_in_the_language_of_the_page(open_tab: Callable[..., Tab]) -> None:
    explained = []
    for language in ("ko-KR", "en-US"):
        tab = open_tab(language=language)
        open_settings(tab)
        hints = tab.page.eval_on_selector_all(
            ".field:has(code)", "rows => rows.map(row => row.querySelector('.hint')?.textContent ?? '')"
        )
        assert all(hints)
        assert all(any("가" <= letter <= "힣" for letter in hint) == (language == "ko-KR") for hint in hints)
        explained.append(len(hints))
    assert explained[0] == explained[1] >= 15


def test_a_preset_of_ones_own_outlives_the_page(tab: Tab, server: StandIn) -> None:
    open_settings(tab)
    field(tab, "temperature").fill("0.3")
    tab.page.click("text=지금 설정을 프리셋으로 저장")
    tab.page.fill(".naming input", "내 것")
    tab.page.press(".naming input", "Enter")
    tab.page.click("text=모두 비우기")
    assert field(tab, "temperature").input_value() == ""
    tab.page.reload()
    tab.page.wait_for_selector("#model option", state="attached")
    open_settings(tab)
    tab.page.select_option(".presets select", label="내 것")
    assert field(tab, "temperature").input_value() == "0.3"


def test_the_key_goes_with_every_request(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    open_settings(tab)
    tab.page.fill("#settings input[type=password]", "sk-1")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    assert server.headers[0]["Authorization"] == "Bearer sk-1"


# History


def test_chats_are_there_after_a_reload_and_are_found(tab: Tab, server: StandIn) -> None:
    server.script = [["서울입니다"], ["파도"]]
    ask(tab, "한국의 수도는?")
    answered(tab)
    tab.page.click("#new-chat")
    ask(tab, "바다 소리")
    answered(tab)
    tab.page.reload()
    titles = tab.page.locator("#chats .title span")
    tab.page.wait_for_selector("#chats li")
    assert titles.all_inner_texts() == ["바다 소리", "한국의 수도는?"]
    for query in ("수도", "ㅎㄱ", "서우", "\u1109\u1165\u110b\u116e\u11af"):
        tab.page.fill("#search", query)
        assert titles.all_inner_texts() == ["한국의 수도는?"], query
    tab.page.fill("#search", "없는 말")
    assert tab.page.inner_text("#no-chats") == "찾는 말이 든 대화가 없습니다."
    tab.page.fill("#search", "")
    tab.page.click("text=한국의 수도는?")
    assert tab.page.inner_text(ANSWER) == "서울입니다"


def test_an_answer_goes_on_while_another_chat_is_open(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["앞", rest, "뒤"]]
    ask(tab, "오래 걸리는 물음")
    tab.page.wait_for_selector("#stop:visible")
    tab.page.click("#new-chat")
    assert tab.page.locator(".message").count() == 0
    rest.set()
    tab.page.click("text=오래 걸리는 물음")
    assert answered(tab) == "앞뒤"


def test_a_deleted_chat_can_be_taken_back(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    ask(tab, "지울 대화")
    answered(tab)
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    assert tab.page.locator("#chats li").count() == 0
    assert tab.page.locator(".message").count() == 0
    tab.page.click("text=되돌리기")
    assert tab.page.inner_text("#chats .title span") == "지울 대화"


def test_an_answer_that_is_under_way_does_not_bring_a_deleted_chat_back(tab: Tab, server: StandIn) -> None:
    server.script = [["앞", threading.Event()]]
    ask(tab, "지울 대화")
    until_shown(tab, "앞")
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    assert server.hung_up.wait(5)
    tab.page.wait_for_timeout(50)
    tab.page.reload()
    tab.page.wait_for_selector("#no-chats:visible")
    assert tab.page.locator("#chats li").count() == 0


def test_a_page_that_was_left_in_mid_answer_says_so_when_it_is_back(tab: Tab, server: StandIn) -> None:
    server.script = [["앞", 1.1, "뒤", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "앞뒤")
    tab.page.reload()
    tab.page.click("#chats .title")
    assert tab.page.inner_text(ANSWER) == "앞뒤"
    assert "여기서 멈췄습니다" in tab.page.inner_text(".message.assistant .status")


def test_the_list_of_chats_keeps_the_focus_while_an_answer_is_kept(tab: Tab, server: StandIn) -> None:
    server.script = [["가", 1.1, "나", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "가")
    tab.page.focus("#chats .title")
    until_shown(tab, "가나")
    assert tab.page.evaluate("document.activeElement.className") == "title"


def test_what_is_exported_is_imported_by_another_browser(
    open_tab: Callable[..., Tab], server: StandIn, tmp_path: Path
) -> None:
    one, other = open_tab(), open_tab()
    server.script = [["**답**"], ["다른 답"]]
    ask(one, "물음")
    answered(one)
    one.page.click("[aria-label='다시 답하기']")
    one.page.wait_for_selector(".branches")
    answered(one)
    with one.page.expect_download() as download:
        one.page.click("#export")
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    assert json.loads(file.read_text(encoding="utf-8"))["version"] == 1
    other.page.set_input_files("#import-file", file)
    other.page.click("#chats .title")
    assert other.page.inner_text(".branches").strip() == "2/2"
    other.page.click("[aria-label='이전 갈래']")
    assert other.page.inner_html(ANSWER) == "<p><strong>답</strong></p>"


GOOD = {
    "id": "a", "title": "t", "created": 1, "changed": 1, "settings": {"system": "", "parameters": {}},
    "messages": {"m": {"id": "m", "parent": "", "role": "user", "content": "x"}}, "chosen": {"": "m"},
}  # fmt: skip


@pytest.mark.parametrize(
    "conversation",
    [
        None,
        {**GOOD, "settings": {}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "role": "tool"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "parent": "gone"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "parent": "m"}}, "chosen": {}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "tokens": [{"token": 1}]}}},
        {**GOOD, "chosen": {"": "gone"}},
    ],
)
def test_a_damaged_file_is_refused_whole(tab: Tab, tmp_path: Path, conversation: Any) -> None:
    file = tmp_path / "chats.json"
    content = {"format": "malmoi-conversations", "version": 1, "conversations": [GOOD, conversation]}
    file.write_text(json.dumps(content))
    tab.page.set_input_files("#import-file", file)
    assert "conversations[1]" in tab.page.wait_for_selector(".notice").inner_text()
    assert tab.page.locator("#chats li").count() == 0


# Look, language, keyboard, screen readers


def test_light_and_dark_follow_the_system_and_then_the_reader(open_tab: Callable[..., Tab]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = open_tab(color_scheme="dark"), open_tab(color_scheme="light")
    assert dark.page.evaluate(background) != light.page.evaluate(background)
    open_settings(light)
    light.page.locator(".field", has_text="밝기").locator("select").select_option("dark")
    assert light.page.evaluate(background) == dark.page.evaluate(background)
    light.page.reload()
    assert light.page.evaluate(background) == dark.page.evaluate(background)


@pytest.mark.parametrize(("language", "send"), [("ko-KR", "보내기"), ("en-GB", "Send"), ("fr-FR", "Send")])
def test_the_page_speaks_the_browsers_language(
    open_tab: Callable[..., Tab], language: str, send: str
) -> None:
    tab = open_tab(language=language)
    assert tab.page.get_attribute("#send", "aria-label") == send
    assert tab.page.evaluate("document.documentElement.lang") == ("ko" if send == "보내기" else "en")


def test_a_phone_has_room_for_everything(open_tab: Callable[..., Tab], server: StandIn) -> None:
    tab = open_tab(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    table = "| 가 | 나 | 다 | 라 |\n|-|-|-|-|\n| 1111 | 2222 | 3333 | 4444 |"
    server.script = [[f"{table}\n\n```\n{'x' * 200}\n```"]]
    ask(tab, "아주" * 100)
    answered(tab)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    box = tab.page.locator("#send").bounding_box()
    assert box["x"] + box["width"] <= 360
    assert box["y"] + box["height"] <= 640
    tab.page.tap("#open-sidebar")
    tab.page.wait_for_selector("#chats .title")
    tab.page.tap("#chats .title")
    tab.page.wait_for_selector("#sidebar", state="hidden")


def test_everything_can_be_done_with_the_keyboard(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"]]
    tab.page.keyboard.type("물음")  # the box has the focus from the beginning
    tab.page.keyboard.press("Enter")
    answered(tab)
    for _ in range(20):
        tab.page.keyboard.press("Shift+Tab")
        if tab.page.evaluate("document.activeElement.ariaLabel") == "다시 답하기":
            break
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector(".branches")
    assert answered(tab) == "둘"
    assert tab.page.evaluate("document.activeElement.id") == "question"
    tab.page.keyboard.press("Control+k")
    assert tab.page.evaluate("document.activeElement.id") == "search"
    tab.page.keyboard.press("Control+Shift+O")
    assert tab.page.locator(".message").count() == 0


def test_a_screen_reader_is_told_the_whole_answer_once(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["안녕", rest, "하세요"]]
    ask(tab, "?")
    until_shown(tab, "안녕")
    assert tab.page.get_attribute("#announcer", "aria-live") == "polite"
    assert tab.page.text_content("#announcer") == "답변하는 중입니다."
    rest.set()
    answered(tab)
    assert tab.page.text_content("#announcer") == "안녕하세요"


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(tab: Tab, server: StandIn) -> None:
    server.script = [["```\n코드\n```"], ["둘"]]
    ask(tab, "물음")
    answered(tab)
    tab.page.click("[aria-label='다시 답하기']")
    tab.page.wait_for_selector(".branches")
    open_settings(tab)
    nameless = """() => [...document.querySelectorAll("button, input, select, textarea, a")].filter((node) =>
        node.type !== "file" && !(node.ariaLabel || node.textContent.trim() || node.closest("label")?.textContent.trim()
    )).map((node) => node.outerHTML)"""
    assert tab.page.evaluate(nameless) == []


# Tokens


def likely(text: bytes, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
    """A token in OpenAI's form."""
    shown = text.decode("utf-8", "replace")
    token = {"token": shown, "bytes": list(text), "logprob": math.log(probability)}
    rest = [{"token": other, "bytes": list(other.encode()), "logprob": math.log(p)} for other, p in others]
    return {**token, "top_logprobs": [token, *rest]}


def test_tokens_are_tinted_by_probability_and_show_what_else_was_likely(tab: Tab, server: StandIn) -> None:
    half, rest = "한".encode()[:2], "한".encode()[2:]
    server.script = [
        [
            chunk(content="", logprobs={"content": [likely(half, 0.5)]}),
            chunk(content="한", logprobs={"content": [likely(rest, 0.99)]}),
            chunk(content=" 글", logprobs={"content": [likely(" 글".encode(), 0.04, (" 말", 0.6))]}),
            chunk(content="", logprobs={"content": [likely(b"<|im_end|>", 0.9)]}),
        ]
    ]
    open_settings(tab)
    tab.page.check("#sees-tokens")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    assert {name: server.asked[0][name] for name in ("logprobs", "top_logprobs")} == {
        "logprobs": True,
        "top_logprobs": 5,
    }
    tokens = tab.page.locator(".token")
    assert tokens.all_inner_texts() == ["한", " 글", "<|im_end|>"]
    tints = [token.get_attribute("class") for token in tokens.all()]
    assert tints == ["token level2", "token level5", "token level0 unsaid"]
    tokens.nth(1).click()
    table = tab.page.inner_text("#candidates")
    assert all(shown in table for shown in ("␣글", "4 %", "␣말", "60 %", "나머지", "36 %"))


def test_speed_and_the_context_that_is_used_are_shown(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    ask(tab, "?")
    answered(tab)
    assert (
        tab.page.inner_text(".message.assistant .stats") == "malmoi · 12토큰 · 45.3토큰/초 · 첫 토큰 0.12초"
    )
    assert tab.page.inner_text("#gauge-text") == "컨텍스트 32 / 128"
    assert tab.page.evaluate("document.getElementById('gauge-meter').value") == 0.25


def test_an_answer_that_the_limit_cut_off_says_so(tab: Tab, server: StandIn) -> None:
    server.script = [["길고 긴", chunk(finish="length")]]
    ask(tab, "?")
    answered(tab)
    assert "최대 토큰 수" in tab.page.inner_text(".message.assistant .status")


def test_thoughts_are_kept_apart_from_the_answer(tab: Tab, server: StandIn) -> None:
    server.script = [[chunk(reasoning_content="음, "), chunk(reasoning_content="그래."), "답"], ["네"]]
    ask(tab, "?")
    assert answered(tab) == "답"
    assert tab.page.text_content(".thoughts p") == "음, 그래."
    ask(tab, "또?")
    answered(tab)
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "답"}


def test_the_tokens_page_cuts_a_text_by_every_model(tab: Tab) -> None:
    tab.page.click("#pages a[href='#tokens']")
    tab.page.fill("#tokens-page textarea", "한글 a\n")
    until_count(tab, "#tokens-page .piece", 14)
    section = tab.page.locator("#tokens-page section").first
    assert section.locator(".piece").all_inner_texts() == ["ed", "95", "9c", "글", " ", "a", "↵\n"]
    assert section.locator("dd").all_inner_texts() == ["7", "5", "9", "3.5"]
    tab.page.uncheck("#tokens-page input[value=other]")
    until_count(tab, "#tokens-page section", 1)
    tab.page.click("#tokens-page button:text-is('NFD')")
    until_count(tab, "#tokens-page .piece", 9)


# The files


def test_the_page_is_small_and_every_file_says_what_it_is() -> None:
    files = sorted(PAGE.iterdir())
    assert sum(file.stat().st_size for file in files) < 200_000
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix in {".js", ".css"}:
            assert text.startswith("/* "), file.name
        assert "http://" not in text.replace("http://www.w3.org", "").replace("http://192.168", ""), file.name
