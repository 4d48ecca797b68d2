"""Look, language, keyboard, screen readers, a phone."""

import base64
import threading
from collections.abc import Callable

import pytest

from .browser import Tab
from .reader import answered, ask, field, open_settings, reload, until_count, until_shown
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow

DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def test_light_and_dark_follow_the_system_and_then_the_reader(open_tab: Callable[..., Tab]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = open_tab(color_scheme="dark"), open_tab(color_scheme="light")
    assert dark.page.evaluate(background) != light.page.evaluate(background)
    open_settings(light)
    light.page.locator(".field", has_text="밝기").locator("select").select_option("dark")
    assert light.page.evaluate(background) == dark.page.evaluate(background)
    light.page.reload()
    assert light.page.evaluate(background) == dark.page.evaluate(background)


def furnish(tab: Tab, server: StandIn) -> None:
    """Show one of everything: a thought, code, calls and their results, branches, images and sounds, a bill."""
    weather = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"city": "서울"}'}}
    image = {"name": "그림.png", "mimeType": "image/png", "buffer": DOT}
    sound = {"name": "소리.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}
    server.script = [
        [chunk(reasoning_content="| 가 | 나 |\n|-|-|\n| 1 | 2 |"), "```\n코드\n```", chunk(finish="length")],
        ["둘"],
        [chunk(tool_calls=[weather]), chunk(finish="tool_calls")],
        [chunk(tool_calls=[{**weather, "id": "call_2"}]), chunk(finish="tool_calls")],
    ]
    tab.page.set_input_files("#attach-file", [image, sound])
    until_count(tab, "#attachments li", 2)
    ask(tab, "물음")
    answered(tab)
    tab.page.click(".assistant summary")
    tab.page.click("[aria-label='다시 답하기']")
    tab.page.wait_for_selector(".branches")
    answered(tab)
    tab.page.click("[aria-label='이전 갈래']")
    ask(tab, "날씨는?")
    tab.page.fill(".call textarea", "맑음")
    tab.page.click("text=결과 보내기")
    until_count(tab, ".call textarea", 1)
    until_count(tab, ".call", 2)
    tab.page.set_input_files("#attach-file", [image, sound])
    until_count(tab, "#attachments li", 2)


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


def test_chats_are_searched_by_ctrl_k_with_a_korean_layout_too(tab: Tab) -> None:
    pressed = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', " + (
        "{ key: 'ㅏ', code: 'KeyK', ctrlKey: true, bubbles: true }))"
    )
    tab.page.evaluate(pressed)
    assert tab.page.evaluate("document.activeElement.id") == "search"


def test_a_browser_that_denies_the_page_its_storage_shows_it_all_the_same(tab: Tab, server: StandIn) -> None:
    denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
    tab.context.add_init_script(
        f"for (const name of ['localStorage', 'indexedDB']) Object.defineProperty(window, name, {{ {denied} }});"
    )
    reload(tab)
    assert "저장할 수 없습니다" in tab.page.wait_for_selector(".notice").inner_text()
    open_settings(tab)
    tab.page.locator(".field", has_text="밝기").locator("select").select_option("dark")
    field(tab, "temperature").fill("0.5")
    tab.page.keyboard.press("Escape")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    server.script = [["네"]]
    ask(tab, "물음")
    assert answered(tab) == "네"
    assert server.asked[0]["temperature"] == 0.5
    tab.page.click("#new-chat")
    open_settings(tab)
    assert field(tab, "temperature").input_value() == "0.5", "kept for as long as the page is open"


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
    furnish(tab, server)
    tab.page.click("[popovertarget=models]")
    open_settings(tab)
    nameless = """() => [...document.querySelectorAll("button, input, select, textarea, a, img, audio")].filter(node =>
        node.type !== "file" && !(node.ariaLabel || node.alt || node.textContent.trim()
            || node.closest("label")?.textContent.trim() || node.closest(".brand")
    )).map((node) => node.outerHTML)"""
    assert tab.page.evaluate(nameless) == []


FAINT = (
    "summary, .hint, .call h3, .call pre, .tool h2, .stats, .status, #open-bill, #gauge-text, .notice, .body"
)
CONTRAST = """(selector) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const parts = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => {
        const [r, g, b] = parts(colour).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
        const colour = getComputedStyle(node).backgroundColor;
        return parts(colour)[3] > 0 ? colour : behind(node.parentElement);
    };
    const seen = [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility());
    return seen.map((node) => {
        const [one, other] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
        return [node.className || node.tagName, (one + 0.05) / (other + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_faint_can_still_be_read(open_tab: Callable[..., Tab], server: StandIn, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    tab = open_tab(color_scheme=scheme)
    furnish(tab, server)
    seen = tab.page.evaluate(CONTRAST, FAINT)
    assert len(seen) > 8
    assert [one for one in seen if one[1] < 4.5] == []


@pytest.mark.parametrize("opener", [None, "#open-bill", "[popovertarget=models]", "#open-settings"])
def test_a_phone_shows_thoughts_files_calls_and_lists_within_its_width(
    open_tab: Callable[..., Tab], server: StandIn, opener: str | None
) -> None:
    tab = open_tab(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    furnish(tab, server)
    if opener:
        tab.page.tap(opener)
    wide = """() => [document.documentElement, ...document.querySelectorAll("dialog[open], :popover-open")]
        .map((node) => node.getBoundingClientRect()).some(({ left, right }) => left < 0 || right > 360)"""
    tab.until(f"({wide})()", False)  # the drawer slides in
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
