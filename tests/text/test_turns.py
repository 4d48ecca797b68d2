"""The loss mask of templates that do not mark what the assistant writes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import TemplateError
from malmoi.text.chat import ChatTemplate

from .formats import FORMATS, assistant, call, result, system, taught, template, tokenizer, user

END = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "qwen3": "<|im_end|>",
    "deepseek": "<｜end▁of▁sentence｜>",
}


def mask_of(name: str, messages: list[dict[str, Any]]) -> list[str]:
    rendered = template(name).render(messages, tokenizer())
    return taught(rendered.ids, rendered.loss_mask)


@pytest.mark.parametrize("name", FORMATS)
def test_each_answer_is_taught_with_the_token_that_ends_it(name: str) -> None:
    messages = [system("s"), user("u"), assistant("하나"), user("u"), assistant("둘\n\n셋"), user("u")]
    space = " " if name == "mistral" else ""  # it writes one before each answer, and has no generation prompt
    assert mask_of(name, messages) == [f"{space}하나{END[name]}", f"{space}둘\n\n셋{END[name]}"]


words = st.text(st.sampled_from("가나 \n\t.<|'\"\\ab1/"), max_size=12).map(lambda text: text + "다")


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(FORMATS), words, words, words)
def test_the_mask_holds_all_that_the_assistant_says_and_nothing_else(
    name: str, asked: str, said: str, said_last: str
) -> None:
    messages = [user(asked), assistant(said), user(said), assistant(said_last)]
    answers = mask_of(name, messages)
    assert len(answers) == 2
    for answer, expected in zip(answers, (said, said_last), strict=True):
        assert answer.endswith(END[name])
        assert answer.removesuffix(END[name]).split("</think>")[-1].strip() == expected.strip()


def test_a_call_of_a_tool_is_taught_whole() -> None:
    messages = [
        user("날씨?"),
        call("weather", {"days": 3, "city": "서울"}),
        result("맑음"),
        assistant("맑아요."),
    ]
    arguments = '{"days": 3, "city": "서울"}'
    assert mask_of("llama3", messages)[0] == f'{{"name": "weather", "parameters": {arguments}}}<|eot_id|>'
    assert mask_of("qwen3", messages) == [
        f'<tool_call>\n{{"name": "weather", "arguments": {arguments}}}\n</tool_call><|im_end|>',
        "<think>\n\n</think>\n\n맑아요.<|im_end|>",
    ]
    assert mask_of("deepseek", messages)[1] == "맑아요.<｜end▁of▁sentence｜>"


def test_thoughts_are_taught_where_they_are_shown() -> None:
    messages = [
        user("a"),
        assistant("b", reasoning_content="음"),
        user("c"),
        assistant("<think>\n흠\n</think>\n\nd"),
    ]
    assert mask_of("qwen3", messages) == ["b<|im_end|>", "<think>\n흠\n</think>\n\nd<|im_end|>"]
    assert mask_of("deepseek", messages)[1] == "\n\nd<｜end▁of▁sentence｜>"


def test_a_prompt_teaches_nothing() -> None:
    messages = [user("a"), assistant("b"), user("c")]
    assert not any(template("chatml").render(messages, tokenizer(), add_generation_prompt=True).loss_mask)
    assert not any(ChatTemplate.default().render(messages, tokenizer(), add_generation_prompt=True).loss_mask)


def test_a_token_that_is_partly_the_assistants_is_taught() -> None:
    joined = ChatTemplate(
        "{{ messages[0].content }}{% generation %}{{ messages[1].content }}<|im_end|>{% endgeneration %}"
    )
    rendered = joined.render([user("th"), assistant("e")], tokenizer())
    assert rendered.ids == tokenizer().encode_special("the<|im_end|>")
    assert taught(rendered.ids, rendered.loss_mask) == ["the<|im_end|>"]


PLAIN = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
ECHO = "{% if add_generation_prompt %}{{ messages[0].content }}<|im_end|>{% endif %}"
ASK = [user("a"), assistant("b")]


@pytest.mark.parametrize(
    ("source", "messages", "message"),
    [
        (PLAIN.replace("<|im_end|>", "\n"), ASK, "no control token ends it"),
        (PLAIN.replace("content", "content | upper"), ASK, "rewrites the content"),
        (PLAIN + "{{ messages[0].content }}", ASK, "unclear where message 1"),
        ("{{ messages[-1].content }}" + PLAIN, ASK, "message 1 .* in one piece"),
        (PLAIN + ECHO, [user("c"), *ASK], "unclear where message 2"),
        (PLAIN, [user("a"), assistant("")], "message 1 .* in one piece"),
        ("{{ messages[0].role }}" + PLAIN, ASK[1:], "up to message 0"),
        ("{{ messages | length }}" + PLAIN, ASK[1:], "unclear where message 0"),
    ],
)
def test_a_mask_that_could_be_wrong_is_refused(source: str, messages: Any, message: str) -> None:
    without_mark = ChatTemplate(source)
    with pytest.raises(TemplateError, match=f"{message}.*generation"):
        without_mark.render(messages, tokenizer())
    assert without_mark.render(messages, tokenizer(), add_generation_prompt=True).ids
