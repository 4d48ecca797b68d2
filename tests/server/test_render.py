"""/v1/chat/render shows what the model reads, and what training would teach."""

from typing import Any

import pytest
from tests.server.conftest import HELLO, Served

from malmoi.llm.prompt import ChatPrompt
from malmoi.text.chat import ChatTemplate

PATH = "/v1/chat/render"
TALK = [*HELLO, {"role": "assistant", "content": "네<|im_end|>"}]


def test_a_prompt_is_what_the_model_reads(tiny: Served) -> None:
    found = tiny.post(PATH, messages=HELLO).json()
    assert found["ids"] == tiny.llm.builder.prompt_ids(HELLO)
    assert found["count"] == len(found["ids"]) == len(found["loss_mask"])
    assert not any(found["loss_mask"])
    assert tiny.llm.tokenizer.decode(found["ids"]) == found["text"]


@pytest.mark.parametrize("is_continued", [False, True])
def test_a_sample_is_rendered_as_training_has_it(tiny: Served, is_continued: bool) -> None:
    flags: dict[str, Any] = {"continue_final_message": True} if is_continued else {}
    found = tiny.post(PATH, messages=TALK, add_generation_prompt=False, **flags).json()
    wanted = ChatTemplate.default().render(TALK, tiny.llm.tokenizer, **flags)
    assert (found["text"], found["ids"], found["loss_mask"]) == (wanted.text, wanted.ids, wanted.loss_mask)
    assert any(found["loss_mask"]) == (not is_continued)


def test_a_prefix_is_gone_on_with_as_in_a_chat(tiny: Served) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "네"}]
    found = tiny.post(PATH, messages=[*HELLO, {**begun[-1], "prefix": True}]).json()
    assert found["ids"] == tiny.llm.builder.prompt_ids(ChatPrompt(messages=begun, is_continued=True))


def test_tools_are_shown_as_the_model_sees_them(tiny: Served) -> None:
    tools = [{"type": "function", "function": {"name": "시각", "parameters": {"type": "object"}}}]
    found = tiny.post(PATH, messages=HELLO, tools=tools).json()
    assert found["ids"] == tiny.llm.builder.prompt_ids(ChatPrompt(messages=HELLO, tools=tools))
    assert "시각" in found["text"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"messages": HELLO, "continue_final_message": True}, "add_generation_prompt"),
        (
            {"messages": [*HELLO, {**TALK[-1], "prefix": True}], "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        ({"messages": [{**HELLO[0], "prefix": True}]}, "assistant"),
        ({"messages": HELLO, "chat_template": "{{ 1 }}"}, "chat_template"),
        ({"messages": [{"role": "user", "content": 3}]}, "content"),
        ({"messages": HELLO, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"messages": [{"role": "user", "content": "?", "mood": "good"}]}, "mood"),
    ],
    ids=str,
)
def test_what_cannot_be_rendered_is_refused(tiny: Served, body: dict[str, Any], word: str) -> None:
    response = tiny.post(PATH, **body)
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]
