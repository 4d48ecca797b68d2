"""What is said in parts is read: a chat format that passes over parts is given one text."""

from pathlib import Path

import pytest

from malmoi.llm.chat_format import ChatFormat
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate

TEMPLATES = sorted(Path(__file__).parent.parent.joinpath("text/templates").glob("*.jinja"))
PARTS = [{"type": "text", "text": "안녕?"}, {"type": "text", "text": "반가워."}]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_texts_in_parts_are_read_as_one_text(file: Path) -> None:
    chat = ChatFormat(ChatTemplate(file.read_text(encoding="utf-8")), ByteTokenizer())
    whole, in_parts = (
        chat.render([{"role": "user", "content": content}], add_generation_prompt=True)
        for content in ("안녕?반가워.", PARTS)
    )
    assert "안녕?반가워." in in_parts.text
    assert in_parts == whole
