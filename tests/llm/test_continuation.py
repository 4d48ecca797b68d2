"""Answers that go on with something: with the assistant's own message, or with ids that were told before."""

from typing import Any

import pytest

from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import ChatPrompt, Delta
from malmoi.testing.models import tiny_llm
from malmoi.text.chat import ChatTemplate

from .test_tools import NOW
from .thinkers import HELLO, THINK, babbles, says, source

OURS = ChatTemplate.default()
QWEN = source("qwen3")
GREEDY = SamplingParams(temperature=0, max_tokens=300)


def begun(content: str, **more: Any) -> ChatPrompt:
    return ChatPrompt(messages=[*HELLO, {"role": "assistant", "content": content, **more}], is_continued=True)


def test_a_message_is_gone_on_with_and_the_answer_is_the_rest() -> None:
    prompt = begun("반가")
    llm = babbles(OURS)
    assert llm.tokenizer.decode(llm.prompt_ids(prompt)).endswith("<|im_start|>assistant\n반가")
    assert says("워요.", prompt, OURS).chat(prompt, GREEDY).text == "워요."


@pytest.mark.parametrize(
    ("prompt", "said", "thought", "text"),
    [
        (begun("반가", reasoning_content="인사다"), "워요", "", "워요"),
        (begun("", reasoning_content="인사다"), "네", "", "네"),
        (begun("<think>\n인사"), "다\n</think>\n\n네", "다", "네"),
        (begun("<think>인사</think>네"), "요", "", "요"),
    ],
    ids=["behind a thought", "right behind a thought", "inside of a thought", "a thought in the text"],
)
def test_a_thinking_models_message_is_gone_on_with_where_it_is(
    prompt: ChatPrompt, said: str, thought: str, text: str
) -> None:
    completion = says(said, prompt, QWEN).chat(prompt, GREEDY)
    assert (completion.thought, completion.text) == (thought, text)


def test_a_thought_that_is_gone_on_with_is_bounded() -> None:
    prompt = begun("<think>\n인사")
    bound = ChatPrompt(messages=prompt.messages, is_continued=True, thought_budget=3)
    completion = says("다다다다", bound, QWEN, *THINK).chat(bound, GREEDY)
    assert (completion.thought, completion.usage.thought_tokens) == ("다", 3)


def test_only_the_assistants_message_is_gone_on_with() -> None:
    for messages in (HELLO, []):
        with pytest.raises(RequestError, match="goes on with the assistant's message"):
            babbles(OURS).chat(ChatPrompt(messages=messages, is_continued=True))


TEXTS: dict[str, tuple[ChatTemplate | str, tuple[str, ...], str, dict[str, Any]]] = {
    "text": (OURS, (), "안녕하세요 👨‍👩‍👧!", {}),
    "thought": (QWEN, THINK, "<think>\n음… 인사\n</think>\n\n안녕!", {}),
    "thought in several tokens": (QWEN, (), "<think>\n음</think>\n\n안녕!", {}),
    "call": (
        OURS,
        (),
        '볼게요.\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        {"tools": [NOW]},
    ),
}


def joined(deltas: list[Delta]) -> tuple[str, str, str]:
    return (
        "".join(delta.thought for delta in deltas),
        "".join(delta.text for delta in deltas),
        "".join(call.name + call.arguments for delta in deltas for call in delta.calls),
    )


@pytest.mark.parametrize(("template", "added", "text", "more"), TEXTS.values(), ids=TEXTS.keys())
def test_behind_a_beginning_comes_what_would_have_come(
    template: ChatTemplate | str, added: tuple[str, ...], text: str, more: dict[str, Any]
) -> None:
    prompt = ChatPrompt(messages=HELLO, **more)
    llm = says(text, prompt, template, *added)
    whole = llm.deltas(prompt, GREEDY)
    deltas = list(whole)
    tokens = whole.completion.tokens
    wanted = joined(deltas)
    for place in range(0, len(tokens), 3):
        rest = llm.deltas(
            ChatPrompt(messages=HELLO, beginning=tokens[:place], thought_budget=50, **more), GREEDY
        )
        told = joined(deltas[: place + 1])  # the first step reads the prompt
        assert tuple(map("".join, zip(told, joined(list(rest)), strict=True))) == wanted
        completion = rest.completion
        assert completion.tokens == tokens[place:]
        assert completion.finish_reason == whole.completion.finish_reason
        assert completion.text == wanted[1].removeprefix(told[1])


def test_half_a_syllable_is_completed_by_the_first_delta() -> None:
    llm = says("한글", HELLO, OURS)
    half = llm.tokenizer.encode("한글")[:4]
    deltas = llm.deltas(ChatPrompt(messages=HELLO, beginning=half), GREEDY)
    assert [delta.text for delta in deltas if delta.text] == ["글"]


def test_a_grammar_and_a_budget_know_how_far_a_beginning_has_come() -> None:
    llm = babbles(source("deepseek"), *THINK)
    prompt = ChatPrompt(messages=HELLO, thought_budget=6)
    params = SamplingParams(temperature=0, choice=("네, 그래요", "아니요, 아직"))
    whole = llm.chat(prompt, params)
    assert whole.text in params.choice
    for place in range(len(whole.tokens)):
        rest = llm.chat(ChatPrompt(messages=HELLO, thought_budget=6, beginning=whole.tokens[:place]), params)
        assert rest.tokens == whole.tokens[place:]
        assert whole.text.endswith(rest.text)
        assert rest.usage.thought_tokens == max(0, 6 - place)


def test_a_stop_string_may_have_begun_in_the_beginning() -> None:
    prompt = ChatPrompt(messages=HELLO, beginning=babbles(OURS).tokenizer.encode("가나"))
    llm = says("다라", prompt, OURS)
    completion = llm.chat(prompt, SamplingParams(temperature=0, stop="나다", max_tokens=20))
    assert (completion.text, completion.stop) == ("", "나다")


def test_a_beginning_that_holds_the_end_is_refused() -> None:
    llm = tiny_llm()
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for text, more in (("가나", {}), (call, {"tools": [NOW], "is_parallel": False})):
        prompt = ChatPrompt(messages=HELLO, beginning=llm.tokenizer.encode(text), **more)
        with pytest.raises(RequestError, match="beginning holds the end of the answer already"):
            llm.chat(prompt, SamplingParams(stop="나", max_tokens=9, logprobs=True))


@pytest.mark.parametrize("token", [-1, 2**70])
def test_an_id_that_there_is_not_begins_nothing(token: int) -> None:
    prompt = ChatPrompt(messages=HELLO, tools=[NOW], beginning=[5, token])
    with pytest.raises(RequestError, match=f"beginning has the id {token}, and the model's go from 0 to"):
        tiny_llm().chat(prompt, GREEDY)


def test_a_mark_within_an_answer_opens_no_thought() -> None:
    prompt = begun("<think>는 표시다.</think>그리고 <think>도")
    completion = says(" 표시다.", prompt, QWEN).chat(prompt, GREEDY)
    assert (completion.thought, completion.text) == ("", " 표시다.")
    prompt = begun("표시는 <think>")
    assert says("다.", prompt, QWEN).chat(prompt, GREEDY).text == "다."
