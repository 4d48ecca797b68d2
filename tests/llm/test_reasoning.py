"""Thoughts: read apart from answers wherever they are cut, bounded, and no business of what is asked of an answer."""

import asyncio
import json
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from malmoi.core.errors import RequestError
from malmoi.engine import Engine, PromptLookup, SamplingParams
from malmoi.llm import AsyncLLM, ChatPrompt, Completion
from malmoi.llm.reasoning import FORMATS, ThoughtReader, find
from malmoi.llm.thought_rule import ThoughtTokens
from malmoi.testing.models import tiny_llm
from malmoi.text.chat import ChatTemplate

from .thinkers import HELLO, THINK, babbles, says, source, talker

GREEDY = SamplingParams(temperature=0, max_tokens=200)
QWEN, DEEPSEEK = source("qwen3"), source("deepseek")
MAGISTRAL = (
    "{% for m in messages %}{{ '[INST]' ~ m.content ~ '[/INST]' if m.role == 'user' else '[THINK][/THINK]' ~ "
    "m.content }}{% endfor %}"
)
THOUGHT = "음… 인사다.\n답하자"
WAYS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "opened by the model": (QWEN, f"<think>\n{THOUGHT}\n</think>\n\n안녕!", THINK),
    "opened by the prompt": (DEEPSEEK, f"{THOUGHT}\n</think>\n\n안녕!", (*THINK, "<｜Assistant｜>")),
    "marks of several tokens": (QWEN, f"<think>\n{THOUGHT}\n</think>\n\n안녕!", ()),
    "in brackets": (MAGISTRAL, f"[THINK]{THOUGHT}[/THINK]안녕!", ("[THINK]", "[/THINK]")),
    "behind white space": (QWEN, f"\n\n<think>{THOUGHT}</think>안녕!", THINK),
}


@pytest.mark.parametrize(("template", "text", "added"), WAYS.values(), ids=WAYS.keys())
def test_a_thought_is_told_apart_from_the_answer_and_streamed(
    template: str, text: str, added: tuple[str, ...]
) -> None:
    llm = says(text, HELLO, template, *added)
    completion = llm.chat(HELLO, GREEDY)
    assert (completion.thought, completion.text) == (THOUGHT, "안녕!")
    assert completion.finish_reason == "stop"
    deltas = llm.deltas(HELLO, GREEDY)
    pieces = list(deltas)
    assert "".join(piece.thought for piece in pieces) == THOUGHT
    assert "".join(piece.text for piece in pieces) == "안녕!"
    assert not any("\ufffd" in piece.thought + piece.text for piece in pieces)
    assert deltas.completion == completion
    assert list(llm.stream(HELLO, GREEDY)) == ["안", "녕", "!"]


def test_thought_tokens_are_counted_without_the_marks() -> None:
    usage = says("<think>음</think>네", HELLO, QWEN, *THINK).chat(HELLO, GREEDY).usage
    assert (usage.thought_tokens, usage.completion_tokens) == (3, 1 + 3 + 1 + 3 + 1)
    usage = says("<think>음</think>네", HELLO, QWEN).chat(HELLO, GREEDY).usage
    assert (usage.thought_tokens, usage.completion_tokens) == (3, 7 + 3 + 8 + 3 + 1)


def test_a_thought_that_is_cut_off_is_all_there_is() -> None:
    llm = says("<think>생각만 한다", HELLO, QWEN, *THINK)
    completion = llm.chat(HELLO, SamplingParams(temperature=0, max_tokens=7))
    assert (completion.thought, completion.text, completion.finish_reason) == ("생각", "", "length")
    assert completion.usage.thought_tokens == 6


@pytest.mark.parametrize("text", ["답이다. <think>는 표시다.</think>", "< think>", "\n <thi", "</think>"])
def test_marks_that_open_no_thought_are_text(text: str) -> None:
    assert says(text, HELLO, QWEN).chat(HELLO, GREEDY).text == text


def test_a_model_without_thoughts_writes_marks_as_text() -> None:
    llm = tiny_llm()
    assert llm.abilities.thinking == "never"
    assert says("<think>a</think>b", HELLO, llm.template).chat(HELLO, GREEDY).text == "<think>a</think>b"


@pytest.mark.parametrize(
    ("template", "added", "thinking"),
    [
        (QWEN, (), "switchable"),
        (DEEPSEEK, (), "always"),
        (MAGISTRAL, (), "always"),
        (source("llama3"), (), "never"),
        (source("llama3"), THINK, "never"),
        ("{{ '<think>' if thinking else '</think>' }}", (), "switchable"),
        ("{{ messages[0].content.split('</thought>')[-1] }}", (), "always"),
    ],
)
def test_whether_a_model_thinks_is_read_from_its_template(
    template: str, added: tuple[str, ...], thinking: str
) -> None:
    assert babbles(template, *added).abilities.thinking == thinking


def test_marks_that_only_the_vocabulary_has_are_read_too() -> None:
    llm = says("<think>음</think>네", HELLO, source("chatml"), *THINK)
    assert (llm.chat(HELLO, GREEDY).thought, llm.chat(HELLO, GREEDY).text) == ("음", "네")
    bound = llm.chat(ChatPrompt(messages=HELLO, thought_budget=2), GREEDY)
    assert bound.usage.thought_tokens == 2


def test_a_model_is_told_whether_to_think() -> None:
    llm = babbles(QWEN, *THINK)
    plain = llm.prompt_ids(HELLO)
    assert llm.prompt_ids(ChatPrompt(messages=HELLO, thinks=True)) == plain
    closed = llm.tokenizer.encode_special("<think>\n\n</think>\n\n")
    assert llm.prompt_ids(ChatPrompt(messages=HELLO, thinks=False)) == [*plain, *closed]
    assert llm.prompt_ids(ChatPrompt(messages=HELLO, thought_budget=0)) == [*plain, *closed]


@pytest.mark.parametrize(
    ("template", "changes", "message"),
    [
        (source("chatml"), {"thinks": True}, "never thinks"),
        (DEEPSEEK, {"thinks": False}, "always thinks.*thought_budget=0"),
        (QWEN, {"thought_budget": -1}, "thought_budget=-1 is out of range"),
    ],
)
def test_what_a_model_cannot_do_is_refused(template: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        babbles(template).chat(ChatPrompt(messages=HELLO, **changes))


def test_a_model_that_never_thinks_need_not_be_told() -> None:
    prompt = ChatPrompt(messages=HELLO, thinks=False, thought_budget=3)
    llm = tiny_llm()
    assert llm.chat(prompt, SamplingParams(seed=1, max_tokens=9)) == llm.chat(
        HELLO, SamplingParams(seed=1, max_tokens=9)
    )


def test_stop_strings_look_at_the_answer_alone() -> None:
    llm = says("<think>끝? 아니.</think>이제 끝이다", HELLO, QWEN, *THINK)
    completion = llm.chat(HELLO, SamplingParams(temperature=0, stop="끝", max_tokens=99))
    assert (completion.thought, completion.text, completion.stop) == ("끝? 아니.", "이제 ", "끝")


@given(
    thought=st.text("가나<think>/ \n", max_size=12),
    answer=st.text("가나<think>/ \n", max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
@example(thought="</think", answer="", cuts=[])
@settings(max_examples=150, deadline=None)
def test_what_is_read_does_not_depend_on_the_cuts(thought: str, answer: str, cuts: list[int]) -> None:
    whole = f"<think>{thought}</think>{answer}".encode()
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in pairwise(edges)]

    def read(pieces: list[bytes]) -> tuple[bytes, bytes]:
        reader = ThoughtReader(FORMATS[0])
        read = [reader.push(piece) for piece in pieces] + [reader.finish()]
        return b"".join(one for one, _ in read), b"".join(other for _, other in read)

    closed = whole.index(b"</think>")
    assert (
        read(pieces)
        == read([whole])
        == (
            whole[len("<think>") : closed].strip(b"\n"),
            whole[closed + len("</think>") :].lstrip(b"\n"),
        )
    )


@pytest.mark.parametrize("added", [THINK, ()], ids=["one token", "several tokens"])
@pytest.mark.parametrize("template", [QWEN, DEEPSEEK], ids=["opened by the model", "opened by the prompt"])
@pytest.mark.parametrize("budget", [0, 1, 2, 7])
def test_a_thought_never_has_more_tokens_than_its_budget(
    template: str, added: tuple[str, ...], budget: int
) -> None:
    long = "".join(map(chr, range(ord("가"), ord("가") + 40)))
    opened = template == DEEPSEEK
    prompt = ChatPrompt(messages=HELLO, thought_budget=budget, thinks=None if opened else True)
    llm = says(long if opened else f"<think>{long}", prompt, template, *added)
    completion = llm.chat(prompt, GREEDY)
    assert completion.usage.thought_tokens == budget
    assert completion.thought == long[: budget // 3]
    assert "\ufffd" not in completion.thought
    forced = llm.tokenizer.encode_special("\n</think>\n\n")
    start = budget if opened else budget + len(llm.tokenizer.encode_special("<think>"))
    assert completion.tokens[start : start + len(forced)] == forced
    assert completion.text


def test_a_thought_that_ends_in_time_is_left_alone() -> None:
    llm = says("<think>음</think>네", HELLO, QWEN, *THINK)
    bound = llm.chat(ChatPrompt(messages=HELLO, thought_budget=4), GREEDY)
    assert bound == llm.chat(HELLO, GREEDY)


def test_a_mark_that_has_begun_is_finished() -> None:
    llm = says("<think>음</thi", ChatPrompt(messages=HELLO, thinks=True), QWEN)
    completion = llm.chat(ChatPrompt(messages=HELLO, thinks=True, thought_budget=8), GREEDY)
    assert completion.thought == "음"
    assert completion.usage.thought_tokens == 3
    shown = llm.tokenizer.decode(completion.tokens)
    assert shown.startswith("<think>음</think>\n\n")


SCHEMA = {
    "type": "object",
    "properties": {"답": {"enum": ["네", "아니요"]}},
    "required": ["답"],
    "additionalProperties": False,
}
FORMS: dict[str, dict[str, Any]] = {
    "schema": {"json_schema": SCHEMA},
    "choice": {"choice": ("네", "아니요")},
}


def has_form(completion: Completion) -> bool:
    if completion.text.startswith("{"):
        return json.loads(completion.text)["답"] in ("네", "아니요")
    return completion.text in ("네", "아니요")


@pytest.mark.parametrize("added", [THINK, ()], ids=["one token", "several tokens"])
@pytest.mark.parametrize("template", [QWEN, DEEPSEEK], ids=["opened by the model", "opened by the prompt"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_form_is_of_the_answer_alone(template: str, form: dict[str, Any], added: tuple[str, ...]) -> None:
    llm = babbles(template, *added)
    for seed in range(3):
        params = SamplingParams(seed=seed, temperature=1.5, **form)
        completion = llm.chat(ChatPrompt(messages=HELLO, thought_budget=5), params)
        assert has_form(completion), completion
        assert completion.finish_reason == "stop"
        assert completion.usage.thought_tokens <= 5


@pytest.mark.parametrize("added", [THINK, ()], ids=["one token", "several tokens"])
def test_a_form_begins_when_the_thought_has_ended_by_itself(added: tuple[str, ...]) -> None:
    llm = says("<think>음{</think>{x", HELLO, QWEN, *added)
    completion = llm.chat(HELLO, SamplingParams(temperature=0, json_schema=SCHEMA))
    assert completion.thought == "음{"
    assert has_form(completion)


def test_a_script_lock_is_of_the_answer_alone() -> None:
    llm = says("<think>In Latin.</think>abc", HELLO, QWEN, *THINK)
    completion = llm.chat(
        HELLO, SamplingParams(temperature=0, script_lock="hangul", latin_share=0, max_tokens=40)
    )
    assert completion.thought == "In Latin."
    assert not any(character.isascii() and character.isalpha() for character in completion.text)


def test_each_of_several_answers_has_its_own_thought() -> None:
    llm = babbles(DEEPSEEK, *THINK)
    prompt = ChatPrompt(messages=HELLO, thought_budget=6)
    params = SamplingParams(seed=3, n=3, max_tokens=30, choice=("네", "아니요"))
    first = llm.chat(prompt, params)
    for place, one in enumerate((first, *first.siblings)):
        alone = llm.chat(prompt, SamplingParams(seed=3 + place, max_tokens=30, choice=("네", "아니요")))
        assert (one.tokens, one.thought, one.text) == (alone.tokens, alone.thought, alone.text)
        assert one.usage.thought_tokens <= 6
        assert has_form(one)


def test_thoughts_side_by_side_are_what_they_are_alone() -> None:
    llm = babbles(DEEPSEEK, *THINK)
    prompts = [ChatPrompt(messages=HELLO, thought_budget=budget) for budget in (2, 5, 9)]
    params = SamplingParams(seed=5, max_tokens=24, choice=("네", "아니요"))
    streams = [llm.deltas(prompt, params) for prompt in prompts]
    while any(next(stream, None) is not None for stream in streams):
        pass
    together = [stream.completion for stream in streams]
    assert together == [llm.chat(prompt, params) for prompt in prompts]


def test_a_preempted_thought_goes_on_undisturbed() -> None:
    prompt = ChatPrompt(messages=HELLO, thought_budget=6)
    params = SamplingParams(seed=5, max_tokens=24, choice=("네", "아니요"))
    llm = babbles(DEEPSEEK, *THINK)
    wanted = llm.chat(prompt, params)
    deltas = llm.deltas(prompt, params)
    for _ in deltas:
        llm.engine.refresh()
    assert deltas.completion == wanted


def test_guessed_tokens_do_not_disturb_a_thought() -> None:
    prompt = ChatPrompt(messages=HELLO, thought_budget=9)
    params = SamplingParams(temperature=0, choice=("네네네네네", "아니요"))
    llm = babbles(DEEPSEEK, *THINK)
    wanted = llm.chat(prompt, params)
    llm.engine = Engine(llm.model, speculation=PromptLookup())
    assert llm.chat(prompt, params) == wanted


def test_a_search_bounds_the_thought_of_each_answer() -> None:
    prompt = ChatPrompt(messages=HELLO, thought_budget=3)
    params = SamplingParams(beam_width=3, n=2, choice=("네", "아니요"), max_tokens=60)
    first = babbles(DEEPSEEK, *THINK).chat(prompt, params)
    for one in (first, *first.siblings):
        assert has_form(one)
        assert one.usage.thought_tokens <= 3


def test_the_first_known_marks_are_found() -> None:
    assert find(ChatTemplate("{{ messages }}"), added=["[THINK]", "[/THINK]"]) is not None
    assert find(ChatTemplate("{{ messages }}"), added=["[THINK]"]) is None
    assert talker(babbles(QWEN).model, QWEN).abilities.tools


def test_behind_an_event_loop_it_is_all_the_same() -> None:
    llm = babbles(DEEPSEEK, *THINK)
    prompt = ChatPrompt(messages=HELLO, thought_budget=5)
    params = SamplingParams(seed=3, max_tokens=40, choice=("네", "아니요"))
    wanted = llm.chat(prompt, params)

    async def ask() -> tuple[Completion, list[str], str]:
        async with AsyncLLM(llm) as asynchronous:
            pieces = [piece async for piece in asynchronous.stream(prompt, params)]
            thought = ""
            async with aclosing(asynchronous.deltas(prompt, params)) as items:
                async for item in items:
                    thought += "" if isinstance(item, Completion) else item[0].thought
            return await asynchronous.chat(prompt, params), pieces, thought

    completion, pieces, thought = asyncio.run(ask())
    assert completion == wanted
    assert ("".join(pieces), thought) == (wanted.text, wanted.thought)


def test_a_rule_behind_a_thought_is_told_apart_from_its_copies_and_can_be_made_anew() -> None:
    llm = babbles(QWEN, *THINK)
    asked = llm.builder.build(
        ChatPrompt(messages=HELLO, thinks=True, thought_budget=3), SamplingParams(choice=("네", "아니요"))
    )
    fresh = asked.request.rule
    assert fresh is not None
    completion = llm.chat(
        ChatPrompt(messages=HELLO, thinks=True, thought_budget=3),
        SamplingParams(seed=1, choice=("네", "아니요")),
    )
    begun = fresh.copy()
    for place, token in enumerate(completion.tokens):
        again = fresh.copy()
        for earlier in completion.tokens[:place]:
            again.advance(earlier)
        assert torch.equal(again.allowed(), begun.allowed())  # type: ignore[arg-type]
        assert begun.copy().allowed()[token]  # type: ignore[index]
        begun.advance(token)


def test_a_token_that_was_not_forced_forces_anew() -> None:
    llm = babbles(QWEN, *THINK)
    prompt = ChatPrompt(messages=HELLO, thinks=True, thought_budget=3)
    rule = llm.builder.build(prompt, SamplingParams(choice=("네", "아니요"))).request.rule
    assert rule is not None
    for token in llm.tokenizer.encode_special("<think>가"):
        rule.advance(token)
    closing = llm.tokenizer.encode_special("\n</think>\n\n")
    for token in llm.tokenizer.encode("나"):  # a guess that went on thinking
        assert rule.allowed().nonzero().flatten().tolist() == closing[:1]  # type: ignore[union-attr]
        rule.advance(token)
    for token in closing:
        assert rule.allowed().nonzero().flatten().tolist() == [token]  # type: ignore[union-attr]
        rule.advance(token)
    assert rule.allowed().sum() == 2  # type: ignore[union-attr]


def test_a_step_looks_at_no_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = babbles(QWEN, *THINK)
    rule = llm.builder.build(HELLO, SamplingParams(choice=("네", "아니요"))).request.rule
    assert rule is not None
    rule.advance(llm.tokenizer.encode_special("<think>")[0])
    monkeypatch.setattr(ThoughtTokens, "bytes_of", None)
    assert rule.allowed().any()  # type: ignore[union-attr]


def test_line_ends_behind_a_thought_are_not_kept() -> None:
    reader = ThoughtReader(FORMATS[0])
    for piece in (b"<think>", b"a", b"\n", b"</think>", *[b"\n"] * 50):
        reader.push(piece)
        assert reader.num_open <= 1
    assert (reader.num_tokens, reader.push(b"b")) == (2, (b"", b"b"))
