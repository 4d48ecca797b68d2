"""Images and sounds: attached by button, paste or drop where the model takes them, sent, shown and kept."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .browser import Tab
from .reader import answered, answered_and_kept, ask, reload, until_count, until_shown
from .stand_in import StandIn

pytestmark = pytest.mark.slow

DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
WAV = base64.b64decode("UklGRigAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQQAAAAAAABA")
GIVE = """async ([kind, files]) => {
    const data = new DataTransfer();
    for (const [name, type, text] of files) {
        const isSize = typeof text === "number";
        const bytes = isSize ? new Uint8Array(text) : Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
        data.items.add(new File([bytes], name, { type }));
    }
    const box = document.getElementById("question");
    const options = { bubbles: true, cancelable: true };
    if (kind === "paste") box.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
    else box.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: data }));
}"""


def give(tab: Tab, how: str, *files: tuple[str, str, bytes]) -> None:
    """Attach files: by the button's dialog, by paste or by drop."""
    if how == "button":
        given = [{"name": name, "mimeType": kind, "buffer": data} for name, kind, data in files]
        tab.page.set_input_files("#attach-file", given)
    else:
        told = [[name, kind, base64.b64encode(data).decode()] for name, kind, data in files]
        tab.page.evaluate(GIVE, [how, told])


def taking(server: StandIn, *media: str) -> None:
    abilities = {"thinking": "never", "tools": False, "fills_gaps": False, "media": list(media)}
    server.models[0]["malmoi"]["abilities"] = abilities


@pytest.mark.parametrize("how", ["button", "paste", "drop"])
def test_images_and_sounds_go_with_the_question(tab: Tab, server: StandIn, how: str) -> None:
    server.script = [["점"], ["그래"]]
    give(tab, how, ("점.png", "image/png", DOT), ("소리.wav", "audio/wav", WAV))
    until_count(tab, "#attachments li", 2)
    ask(tab, "이게 뭐야?")
    answered(tab)
    (message,) = server.asked[0]["messages"]
    url = "data:image/png;base64," + base64.b64encode(DOT).decode()
    sound = {"data": base64.b64encode(WAV).decode(), "format": "wav"}
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": sound},
        {"type": "text", "text": "이게 뭐야?"},
    ]
    assert tab.page.locator("#attachments li").count() == 0
    assert tab.page.get_attribute(".message.user img", "alt") == "붙인 이미지: 점.png"
    tab.until("document.querySelector('.message.user img').naturalWidth", 1)
    tab.until("document.querySelector('.message.user audio').duration > 0", True)
    # The next question goes with them still, and has none of its own.
    ask(tab, "그리고?")
    answered(tab)
    assert server.asked[1]["messages"][0] == message
    assert server.asked[1]["messages"][2] == {"role": "user", "content": "그리고?"}


def test_an_image_alone_is_a_question(tab: Tab, server: StandIn) -> None:
    server.script = [["점"]]
    give(tab, "button", ("점.png", "image/png", DOT))
    until_count(tab, "#attachments li", 1)
    tab.page.press("#question", "Enter")
    answered(tab)
    assert [part["type"] for part in server.asked[0]["messages"][0]["content"]] == ["image_url"]
    assert tab.page.inner_text("#chats .title span") == "점.png"


def test_what_is_attached_can_be_taken_away_with_the_keyboard(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    give(tab, "button", ("하나.png", "image/png", DOT), ("둘.png", "image/png", DOT))
    until_count(tab, "#attachments li", 2)
    tab.page.focus("[aria-label='하나.png 빼기']")
    tab.page.keyboard.press("Enter")
    until_count(tab, "#attachments li", 1)
    assert tab.page.evaluate("document.activeElement.id") == "question"
    ask(tab, "?")
    answered(tab)
    assert len(server.asked[0]["messages"][0]["content"]) == 2


@pytest.mark.parametrize(
    ("name", "kind", "size", "told"),
    [
        ("큰.png", "image/png", 8 * 2**20 + 1, "파일 하나는 8 MiB까지"),
        ("글.pdf", "application/pdf", 1, "PNG, JPEG, WebP"),
        ("소리.wav", "audio/wav", 1, "소리를 듣지 못합니다"),
    ],
)
def test_what_the_model_does_not_take_or_is_too_large_is_refused_with_a_word(
    tab: Tab, server: StandIn, name: str, kind: str, size: int, told: str
) -> None:
    taking(server, "image")
    reload(tab)
    tab.page.evaluate(GIVE, ["paste", [[name, kind, size]]])
    assert told in tab.page.wait_for_selector(".notice").inner_text()
    assert tab.page.locator("#attachments li").count() == 0


def test_a_message_has_room_for_only_so_much(tab: Tab) -> None:
    tab.page.evaluate(GIVE, ["paste", [[f"{number}.png", "image/png", 7 * 2**20] for number in range(3)]])
    until_count(tab, "#attachments li", 2)
    assert "20 MiB까지" in tab.page.wait_for_selector(".notice").inner_text()


def test_files_given_at_once_in_two_ways_share_that_room(tab: Tab) -> None:
    files = [[f"{number}.png", "image/png", 7 * 2**20] for number in range(2)]
    tab.page.evaluate(f"([one, other]) => {{ ({GIVE})(one); ({GIVE})(other); }}", [["paste", files]] * 2)
    until_count(tab, "#attachments li", 2)
    assert "20 MiB까지" in tab.page.wait_for_selector(".notice").inner_text()
    tab.page.wait_for_timeout(200)
    assert tab.page.locator("#attachments li").count() == 2


def test_a_model_that_reads_text_only_says_so_when_the_button_is_pressed(tab: Tab, server: StandIn) -> None:
    taking(server)
    reload(tab)
    tab.page.click("#attach")
    assert "글만 읽습니다" in tab.page.wait_for_selector(".notice").inner_text()


def test_images_are_kept_exported_and_imported(
    open_tab: Callable[..., Tab], server: StandIn, tmp_path: Path
) -> None:
    one, other = open_tab(), open_tab()
    server.script = [["점"]]
    give(one, "button", ("점.png", "image/png", DOT))
    until_count(one, "#attachments li", 1)
    ask(one, "?")
    answered_and_kept(one)
    reload(one)
    one.page.click("#chats .title")
    one.until("document.querySelector('.message.user img')?.naturalWidth", 1)
    with one.page.expect_download() as download:
        one.page.click("#export")
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    other.page.set_input_files("#import-file", file)
    other.page.click("#chats .title")
    other.until("document.querySelector('.message.user img')?.naturalWidth", 1)


@pytest.mark.parametrize(
    "url",
    ["https://a.b/c.png", "javascript:alert(1)", "data:text/html,<b>", "data:image/png;base64,AAA", 1, None],
)
def test_a_file_with_an_image_from_elsewhere_is_refused(tab: Tab, tmp_path: Path, url: Any) -> None:
    image = {"kind": "image", "name": "a", "type": "image/png", "size": 1, "url": url}
    message = {"id": "m", "parent": "", "role": "user", "content": "x", "media": [image]}
    conversation = {
        "id": "a", "title": "t", "created": 1, "changed": 1, "settings": {"system": "", "parameters": {}},
        "messages": {"m": message}, "chosen": {"": "m"},
    }  # fmt: skip
    content = {"format": "malmoi-conversations", "version": 1, "conversations": [conversation]}
    file = tmp_path / "chats.json"
    file.write_text(json.dumps(content))
    tab.page.set_input_files("#import-file", file)
    assert "not a message" in tab.page.wait_for_selector(".notice").inner_text()


def test_an_edited_question_keeps_its_images(tab: Tab, server: StandIn) -> None:
    server.script = [["점"], ["네"]]
    give(tab, "button", ("점.png", "image/png", DOT))
    until_count(tab, "#attachments li", 1)
    ask(tab, "이게 뭐야?")
    answered(tab)
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "색은?")
    tab.page.press(".edit textarea", "Enter")
    until_shown(tab, "네")
    until_count(tab, ".message.user img", 1)
    kinds = [part["type"] for part in server.asked[1]["messages"][0]["content"]]
    assert kinds == ["image_url", "text"]
