"""Korean and the Enter key: one press does one thing, once, in whatever order a system tells of it."""

from typing import Any

import pytest

from .browser import Tab
from .reader import QUESTION, answered, ask, asked, until_count, until_shown
from .stand_in import StandIn

pytestmark = pytest.mark.slow


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
    until_shown(tab, "또")
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
