"""What a template is given is plain data."""

import enum

import pytest

from malmoi.core.errors import TemplateError
from malmoi.text.messages import plain, plain_messages, plain_tools


class Role(enum.StrEnum):
    USER = "user"


class Score(float):
    pass


def test_subclasses_become_the_plain_type() -> None:
    given = plain({"role": Role.USER, "score": Score(0.5), "ok": True, "none": None, "pair": (1, [2])})
    assert given == {"role": "user", "score": 0.5, "ok": True, "none": None, "pair": (1, [2])}
    assert [type(value) for value in given.values()] == [str, float, bool, type(None), tuple]


def test_the_callers_messages_stay_as_they_are() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "한"}], "name": None}
    [given] = plain_messages([message], nfc=True)
    given["content"][0]["text"] = "changed"
    assert message == {"role": "user", "content": [{"type": "text", "text": "한"}], "name": None}


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_are_found_under_the_names_that_templates_read(name: str) -> None:
    [given] = plain_messages([{"role": "assistant", name: "음"}], nfc=True)
    assert given["thinking"] == given["reasoning_content"] == "음"


@pytest.mark.parametrize("messages", [[], ["안녕"], [{"content": "안녕"}], [{"role": 1}]])
def test_what_is_no_conversation_is_refused(messages: list[object]) -> None:
    with pytest.raises(TemplateError, match="at least one message|not a mapping with a role"):
        plain_messages(messages, nfc=True)


def test_a_tool_is_described_by_a_mapping() -> None:
    assert plain_tools(None) is None
    assert plain_tools([{"name": "weather"}]) == [{"name": "weather"}]
    with pytest.raises(TemplateError, match="Describe it with a JSON schema"):
        plain_tools([plain_tools])
