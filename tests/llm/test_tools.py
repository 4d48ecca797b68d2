"""Calls of tools: read wherever a text is cut, losslessly; forced where they must come; written as each family does."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import ChatPrompt, Completion
from malmoi.llm.tools import CallFormat, find, formats
from malmoi.llm.tools.reader import CallReader
from malmoi.testing.models import tiny_llm
from malmoi.text.chat import ChatTemplate

from .thinkers import HELLO, THINK, babbles, says, source

GREEDY = SamplingParams(temperature=0, max_tokens=400)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "오늘의 날씨",
        "parameters": {
            "type": "object",
            "properties": {
                "도시": {"enum": ["서울", "부산"]},
                "일": {"type": "integer", "maximum": 9, "minimum": 0},
            },
            "required": ["도시", "일"],
            "additionalProperties": False,
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
TOOLS = [WEATHER, NOW]
FAMILIES: dict[str, CallFormat] = {
    "hermes": formats.hermes(),
    "exaone": formats.hermes(""),
    "mistral list": formats.mistral_list(" "),
    "mistral": formats.MISTRAL,
    "llama": formats.LLAMA,
    "deepseek v3": formats.deepseek(),
    "deepseek v3.1": formats.deepseek("", ("", "")),
}
CALL = re.compile(r"call_[0-9a-f]{24}")


def written(family: CallFormat, calls: Sequence[tuple[str, str]]) -> str:
    """Calls as a family writes them."""
    each = [f"{name}{family.middle}{arguments}{family.closing}" for name, arguments in calls]
    return family.opening + family.between.join(each) + family.ending


def read(
    family: CallFormat, pieces: Sequence[str], *, is_certain: bool = False, is_parallel: bool = True
) -> tuple[str, list[tuple[str, str]]]:
    """The text, and the name and arguments of each call."""
    reader = CallReader(family, {"weather": {}, "now": {}}, is_certain=is_certain, is_parallel=is_parallel)
    said = [reader.push(piece) for piece in pieces] + [reader.finish()]
    calls: dict[int, list[str]] = {}
    for delta in (delta for each in said for delta in each.calls):
        if delta.id:
            assert CALL.fullmatch(delta.id)
            calls[delta.place] = [delta.name, ""]
        calls[delta.place][1] += delta.arguments
    assert list(calls) == list(range(len(calls)))
    return "".join(each.text for each in said), [(name, arguments) for name, arguments in calls.values()]


def cut(text: str, cuts: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(edges)]


ARGUMENTS = st.dictionaries(
    st.text('가a{}[]"\\/<>: ,\n', max_size=4),
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text('나b{}[]"\\/<>;, \n', max_size=6) | st.just("</tool_call>"),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.text("c", max_size=2), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    max_size=3,
)
CALLS = st.lists(st.tuples(st.sampled_from(["weather", "now"]), ARGUMENTS), min_size=1, max_size=3)


@pytest.mark.parametrize("is_certain", [True, False], ids=["forced", "free"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@given(
    text=st.text("가 나.\n<[{", max_size=8),
    calls=CALLS,
    cuts=st.lists(st.integers(0, 999), max_size=12),
    in_korean=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_calls_cut_anywhere_are_read_as_they_were_written(
    family: CallFormat,
    is_certain: bool,
    text: str,
    calls: list[tuple[str, dict[str, Any]]],
    cuts: list[int],
    in_korean: bool,
) -> None:
    text = "" if family.only_at_start else text
    wanted = [(name, json.dumps(arguments, ensure_ascii=in_korean)) for name, arguments in calls]
    pieces = cut(text + written(family, wanted), cuts)
    assert read(family, pieces, is_certain=is_certain) == (text.rstrip(), wanted)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@given(
    pieces=st.lists(
        st.sampled_from(
            ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", '{"name": "weather"', "{}", "}", "]", "[", " ",
             '{"name": "x", "arguments": {}}', '{"name": "weather", "arguments": {"a": tru}}', ', "parameters": ',
             "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "weather", '"arguments": ', "가", "; ", "\n"]
        ),
        max_size=10,
    ),
    cuts=st.lists(st.integers(0, 999), max_size=12),
)  # fmt: skip
@example(pieces=["<tool_call>", '{"name": "x", "arguments": {}}', "</tool_call>"], cuts=[])
@settings(max_examples=60, deadline=None)
def test_what_only_looks_like_a_call_is_text_to_the_letter(
    family: CallFormat, pieces: list[str], cuts: list[int]
) -> None:
    whole = "".join(pieces)
    text, calls = read(family, cut(whole, cuts))
    assert (text, calls) == read(family, [whole])
    if not calls:
        assert text == whole


TAGGED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "글": {"type": "string"},
        "수": {"type": "integer"},
        "말": {"enum": ["가", "나"]},
        "목록": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["글", "목록"],
}


@given(
    text=st.text('가a<>/\n "\\', max_size=9).filter(lambda text: "</parameter>" not in text),
    number=st.none() | st.integers(-9, 99),
    flags=st.lists(st.booleans(), max_size=2),
    cuts=st.lists(st.integers(0, 999), max_size=12),
    is_certain=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_tagged_arguments_cut_anywhere_are_the_object_that_they_say(
    text: str, number: int | None, flags: list[bool], cuts: list[int], is_certain: bool
) -> None:
    wanted = {"글": text, **({} if number is None else {"수": number}), "목록": flags}
    tags = "".join(
        f"<parameter={name}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n"
        for name, value in wanted.items()
    )
    whole = f"앞\n<tool_call>\n<function=f>\n{tags}</function>\n</tool_call>"
    reader = CallReader(formats.QWEN_CODER, {"f": TAGGED}, is_certain=is_certain)
    said = [reader.push(piece) for piece in cut(whole, cuts)] + [reader.finish()]
    deltas = [delta for each in said for delta in each.calls]
    assert "".join(each.text for each in said) == "앞"
    assert json.loads("".join(delta.arguments for delta in deltas)) == wanted
    assert [delta.name for delta in deltas if delta.id] == ["f"]


@pytest.mark.parametrize("seed", range(3))
def test_tagged_arguments_are_those_of_the_schema(seed: int) -> None:
    template = "{{ tools }}{{ messages[0].content }}{{ '<tool_call>' if x }}{{ '<function=' if x }}"
    bounded = {name: TAGGED["properties"][name] for name in ("말", "목록")}
    schema = {**TAGGED, "properties": bounded | {"수": {"type": "integer", "minimum": 0, "maximum": 9}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {**schema, "required": ["목록"]}}}
    prompt = ChatPrompt(messages=HELLO, tools=[tool], tool_choice="f", is_parallel=False)
    completion = babbles(template).chat(prompt, SamplingParams(seed=seed, temperature=1.5))
    [(name, arguments)] = calls_of(completion)
    assert name == "f"
    assert {"목록"} <= set(arguments) <= {"말", "목록", "수"}
    assert all(isinstance(flag, bool) for flag in arguments["목록"])
    assert arguments.get("말", "가") in ("가", "나")
    assert arguments.get("수", 0) in range(10)


def test_a_tagged_text_ends_where_its_tag_is_closed() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": TAGGED}}
    prompt = ChatPrompt(messages=HELLO, tools=[tool], is_parallel=False)
    template = "{{ tools }}{{ messages[0].content }}{{ '<tool_call>' if x }}{{ '<function=' if x }}"
    tags = "<parameter=글>\n</b>\n둘째 줄\n</parameter>\n<parameter=목록>\n[true]\n</parameter>"
    text = f"<tool_call>\n<function=f>\n{tags}\n</function>\n</tool_call>"
    completion = says(text, prompt, template).chat(prompt, GREEDY)
    assert calls_of(completion) == [("f", {"글": "</b>\n둘째 줄", "목록": [True]})]


def test_text_between_calls_stays() -> None:
    one = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    assert read(FAMILIES["hermes"], [f"앞 {one} 가운데\n{one}\n뒤"]) == ("앞가운데뒤", [("now", "{}")] * 2)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{ "name" : "now" , "arguments" : {} }</tool_call>',
        '<tool_call>\n{"type": "function", "name": "now", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "now", "arguments": {}}',
    ],
)
def test_other_white_space_and_a_missing_end_do_not_matter(text: str) -> None:
    assert read(FAMILIES["hermes"], [text]) == ("", [("now", "{}")])


def test_ids_that_a_model_writes_itself_are_passed_over() -> None:
    listed = '[TOOL_CALLS] [{"name": "now", "arguments": {}, "id": "abc123def"}]'
    assert read(FAMILIES["mistral list"], list(listed)) == ("", [("now", "{}")])
    named = "[TOOL_CALLS]now[CALL_ID]abc123def[ARGS]{}"
    assert read(FAMILIES["mistral"], list(named)) == ("", [("now", "{}")])


def test_without_parallel_calls_a_message_ends_with_its_first() -> None:
    family = FAMILIES["hermes"]
    text = written(family, [("now", "{}"), ("now", "{}")])
    assert read(family, list(text), is_parallel=False) == ("", [("now", "{}")])


def test_arguments_come_in_pieces_where_a_grammar_makes_sure_of_them() -> None:
    reader = CallReader(FAMILIES["hermes"], {"now": {}}, is_certain=True)
    text = '<tool_call>\n{"name": "now", "arguments": {"a": "가나"}}\n</tool_call>'
    pieces = [call.arguments for character in text for call in reader.push(character).calls]
    assert pieces == ["", *'{"a": "가나"}']


@pytest.mark.parametrize(
    ("template", "opening"),
    [
        (source("qwen3"), '<tool_call>\n{"name": "'),
        (source("mistral"), '[TOOL_CALLS] [{"name": "'),
        (source("llama3"), '{"name": "'),
        (ChatTemplate.default().sources["default"], '<tool_call>\n{"name": "'),
        ("{{ tools }}{{ '<tool_call>' ~ x }}", '<tool_call>{"name": "'),
        ("{{ tools }}[TOOL_CALLS]{{ x }}[ARGS]", "[TOOL_CALLS]"),
        ("{{ tools }}<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"),
        (
            "{{ tools }}<｜tool▁calls▁begin｜>{{ x }}```json",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        ),
        (source("deepseek"), None),
        (source("gemma"), None),
        ("{{ tools }}<tool_call>{{ x }}<arg_key>", None),
        ("{{ tools }}<tool_call>{{ x }}<function=", "<tool_call>\n<function="),
    ],
)
def test_how_a_model_calls_is_read_from_its_template(template: str, opening: str | None) -> None:
    found = find(ChatTemplate(template))
    assert (None if found is None else found.opening) == opening
    assert babbles(template).abilities.tools == (opening is not None)


TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": (ChatTemplate.default().sources["default"], ()),
    "qwen3": (source("qwen3"), ("<tool_call>", "</tool_call>")),
    "mistral": (source("mistral"), ("[TOOL_CALLS]", "[INST]", "[/INST]")),
    "llama3": (source("llama3"), ()),
}


def calls_of(completion: Completion) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in completion.tool_calls]


@pytest.mark.parametrize(("template", "added"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_model_that_calls_is_read_and_streamed(template: str, added: tuple[str, ...]) -> None:
    family = find(ChatTemplate(template))
    assert family is not None
    wanted = [("weather", '{"도시": "서울", "일": 1}'), ("now", "{}")][: 1 if family.is_single else 2]
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS, thinks=False)
    llm = says(written(family, wanted), prompt, template, *added)
    completion = llm.chat(prompt, GREEDY)
    assert [call[1:] for call in completion.tool_calls] == wanted
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")
    deltas = llm.deltas(prompt, GREEDY)
    news = [call for delta in deltas for call in delta.calls]
    assert [call.name for call in news if call.id] == [name for name, _ in wanted]
    assert "".join(call.arguments for call in news if call.place == 0) == wanted[0][1]
    assert len(news) > 10
    assert deltas.completion.finish_reason == "tool_calls"


@pytest.mark.parametrize(("template", "added"), TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("choice", ["required", "now"])
def test_a_model_that_knows_nothing_calls_where_it_has_to(
    template: str, added: tuple[str, ...], choice: str
) -> None:
    llm = babbles(template, *added)
    for seed in range(2):
        prompt = ChatPrompt(messages=HELLO, tools=TOOLS, tool_choice=choice, is_parallel=False, thinks=False)
        completion = llm.chat(prompt, SamplingParams(seed=seed, temperature=1.5))
        [(name, arguments)] = calls_of(completion)
        assert (completion.text, completion.finish_reason) == ("", "tool_calls")
        if name == "weather":
            assert arguments["도시"] in ("서울", "부산")
            assert arguments["일"] in range(10)
        else:
            assert arguments == {}
        assert choice in ("required", name)


def test_once_a_call_has_begun_its_arguments_are_those_of_the_schema() -> None:
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS, is_parallel=False)
    llm = says("볼게요. <tool_call>\nHello", prompt, ChatTemplate.default())
    completion = llm.chat(prompt, GREEDY)
    assert completion.text == "볼게요."
    [(name, arguments)] = calls_of(completion)
    assert (name, set(arguments)) in (("weather", {"도시", "일"}), ("now", set()))


def test_a_model_may_answer_instead_of_calling() -> None:
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS)
    llm = says('안녕! <tool_ {"name"', prompt, ChatTemplate.default())
    completion = llm.chat(prompt, GREEDY)
    assert (completion.text, completion.finish_reason) == ('안녕! <tool_ {"name"', "stop")
    assert completion.tool_calls == ()


def test_a_call_comes_behind_a_thought() -> None:
    prompt = ChatPrompt(
        messages=HELLO, tools=TOOLS, tool_choice="required", thought_budget=4, is_parallel=False
    )
    completion = babbles(source("qwen3"), *THINK).chat(prompt, SamplingParams(seed=1, temperature=1.5))
    assert len(calls_of(completion)) == 1
    assert completion.usage.thought_tokens <= 4
    said = ChatPrompt(messages=HELLO, tools=TOOLS)
    text = '<think><tool_call>\n{"name": "now"?</think>\n\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    completion = says(text, said, source("qwen3"), *THINK, "<tool_call>").chat(said, GREEDY)
    assert completion.thought == '<tool_call>\n{"name": "now"?'
    assert calls_of(completion) == [("now", {})]


@pytest.mark.parametrize("seed", range(4))
def test_with_a_form_an_answer_has_the_form_or_calls(seed: int) -> None:
    prompt = ChatPrompt(messages=HELLO, tools=[NOW], is_parallel=False)
    llm = babbles(ChatTemplate.default())
    completion = llm.chat(prompt, SamplingParams(seed=seed, temperature=1.5, choice=("네", "<b>")))
    assert completion.text in ("네", "<b>") or calls_of(completion) == [("now", {})]


def test_a_call_that_is_cut_off_says_so() -> None:
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS, tool_choice="weather")
    completion = babbles(ChatTemplate.default()).chat(prompt, SamplingParams(seed=1, max_tokens=48))
    assert completion.finish_reason == "length"
    assert completion.tool_calls[0].name == "weather"


def test_without_the_extra_calls_are_read_and_what_is_none_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rules", "request_builder"):
        monkeypatch.setattr(f"malmoi.llm.{module}.can_follow_grammars", lambda: False)
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS)
    for text, calls in (
        ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', [("now", {})]),
        ('<tool_call>\n{"name": "now", "arguments": {]}\n</tool_call>', []),
        ('<tool_call>\n{"name": "never", "arguments": {}}\n</tool_call>', []),
    ):
        completion = says(text, prompt, ChatTemplate.default()).chat(prompt, GREEDY)
        assert calls_of(completion) == calls
        assert completion.text == ("" if calls else text)
        assert completion.finish_reason == ("tool_calls" if calls else "stop")


def test_none_is_shown_where_none_may_be_called() -> None:
    llm = tiny_llm()
    assert llm.prompt_ids(ChatPrompt(messages=HELLO, tools=TOOLS, tool_choice="none")) == llm.prompt_ids(
        HELLO
    )
    shown = llm.tokenizer.decode(llm.prompt_ids(ChatPrompt(messages=HELLO, tools=TOOLS)))
    assert "오늘의 날씨" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tools": [{"name": "now"}]}, "not of the form"),
        ({"tools": [NOW, NOW]}, "two tools have the name 'now'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "its name is no word"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "no JSON Schema"),
        (
            {"tools": TOOLS, "tool_choice": "tomorrow"},
            "tool_choice='tomorrow' is none of the tools: weather, now",
        ),
        ({"tool_choice": "required"}, "there are no tools"),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "a", "parameters": {"type": "object", "minProperties": "no"}},
                    }
                ]
            },
            "tools='a' cannot be followed",
        ),
    ],
)
def test_what_cannot_be_offered_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tiny_llm().chat(ChatPrompt(messages=HELLO, **changes))


def test_a_format_without_tools_refuses_them() -> None:
    with pytest.raises(RequestError, match="shows no tools"):
        babbles(source("gemma")).chat(ChatPrompt(messages=HELLO, tools=TOOLS))


def test_going_on_after_a_stop_token_contradicts_tools() -> None:
    with pytest.raises(RequestError, match="ignore_eos=True and tools"):
        tiny_llm().chat(
            ChatPrompt(messages=HELLO, tools=TOOLS), SamplingParams(ignore_eos=True, max_tokens=4)
        )


PAST = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_0123456789abcdef01234567",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"도시": "서울", "일": 1}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_0123456789abcdef01234567", "content": "맑음"},
]


@pytest.mark.parametrize(("template", "added"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_past_calls_read_as_the_model_writes_them(template: str, added: tuple[str, ...]) -> None:
    family = find(ChatTemplate(template))
    assert family is not None
    llm = babbles(template, *added)
    shown = llm.tokenizer.decode(llm.prompt_ids(ChatPrompt(messages=PAST, tools=TOOLS)))
    assert written(family, [("weather", '{"도시": "서울", "일": 1}')]) in shown
    assert "맑음" in shown


def test_a_template_that_wants_text_is_given_text() -> None:
    template = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'call ' + c.function.arguments }}{% endfor %}"
        "{{ m.content or '' }}{% endfor %}"
    )
    llm = babbles(template)
    assert 'call {"도시": "서울", "일": 1}' in llm.tokenizer.decode(llm.prompt_ids(PAST))


def test_our_format_without_tools_is_what_it_was() -> None:
    turns = [{"role": "system", "content": "짧게."}, *HELLO, {"role": "assistant", "content": "네."}]
    text = tiny_llm().builder.render(turns).text
    assert text == "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tools": [tool(f"f{number}") for number in range(1025)]}, "1,025 tools, and 1,024 are the most"),
        ({"tools": [tool("none")]}, "tool_choice='none' means something else"),
        ({"tools": [tool(parameters={"type": "integer"})]}, "arguments are an 'object'"),
        ({"tools": [tool(parameters={"properties": [1]})]}, "properties is no object"),
        ({"tools": [tool(parameters={"properties": {"a": 1}})]}, "the property 'a' is no schema"),
        ({"tools": [tool(parameters={"properties": {"a": {"enum": "가나"}}})]}, "the enum of 'a' is no list"),
        *[
            ({"tools": [tool(parameters={"required": value})]}, "no list of names")
            for value in (None, 3, "a")
        ],
        ({"tools": [tool(strict=True, parameters={"propertys": {}})]}, "Did you mean 'properties'"),
        (
            {"tools": [tool(strict=True, parameters={"properties": {"a": {"maxlength": 3}}})]},
            "unknown keyword 'maxlength'",
        ),
    ],
)
def test_what_would_bind_otherwise_than_it_says_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tiny_llm().prompt_ids(ChatPrompt(messages=HELLO, **changes))


def test_without_strict_a_keyword_that_is_not_known_does_not_bind() -> None:
    loose = tool(parameters={"propertys": {}, "additionalProperties": False})
    prompt = ChatPrompt(messages=HELLO, tools=[loose], tool_choice="f", is_parallel=False)
    assert calls_of(babbles(ChatTemplate.default()).chat(prompt, SamplingParams(seed=1))) == [("f", {})]


def test_a_form_of_the_answer_contradicts_calls_in_its_place() -> None:
    for choice in ("required", "now"):
        prompt = ChatPrompt(messages=HELLO, tools=TOOLS, tool_choice=choice)
        with pytest.raises(RequestError, match="json_schema says what an answer looks like, and tool_choice"):
            tiny_llm().chat(prompt, SamplingParams(json_schema={"type": "object"}))


def test_arguments_are_an_object_whatever_the_schema_leaves_out() -> None:
    prompt = ChatPrompt(messages=HELLO, tools=[tool(parameters={"maxProperties": 0})], is_parallel=False)
    llm = says('<tool_call>\n{"name": "f", "arguments": 3}\n</tool_call>', prompt, ChatTemplate.default())
    assert calls_of(llm.chat(prompt, GREEDY)) == [("f", {})]


TAGS = "{{ tools }}{{ messages[0].content }}{{ '<tool_call>' if x }}{{ '<function=' if x }}"


def tagged(text: str, properties: dict[str, Any], **more: Any) -> Completion:
    parameters = {"properties": properties, "required": list(properties)}
    prompt = ChatPrompt(messages=HELLO, tools=[tool(parameters=parameters)], is_parallel=False, **more)
    llm = says(f"<tool_call>\n<function=f>\n{text}</function>\n</tool_call>", prompt, TAGS)
    return llm.chat(prompt, GREEDY)


@pytest.mark.parametrize("value", ["a</parameter>b", "x </parameter>", "", "\n", "</function>\n"])
def test_a_closing_tag_within_a_line_is_of_the_value(value: str) -> None:
    texts = {"a": value, "b": "둘"}
    text = "".join(f"<parameter={name}>\n{one}\n</parameter>\n" for name, one in texts.items())
    assert calls_of(tagged(text, {"a": {"type": "string"}, "b": {"type": "string"}})) == [("f", texts)]


def test_json_in_tags_may_hold_a_closing_tag() -> None:
    properties = {"a": {"type": "array", "items": {"enum": ["</parameter>"]}}, "b": True}
    text = '<parameter=a>\n["</parameter>"]\n</parameter>\n<parameter=b>\n3\n</parameter>\n'
    assert calls_of(tagged(text, properties)) == [("f", {"a": ["</parameter>"], "b": 3})]


def test_a_tagged_value_in_one_line_ends_with_the_first_closing_tag() -> None:
    reader = CallReader(formats.QWEN_CODER, {"f": TAGGED}, is_certain=False)
    text = "<tool_call><function=f><parameter=글>가</parameter><parameter=목록>[]</parameter></function></tool_call>"
    assert json.loads("".join(call.arguments for call in reader.push(text).calls)) == {"글": "가", "목록": []}


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"a>b": {"type": "string"}}, "the argument 'a>b' cannot be written"),
        ({"a\nb": {"type": "integer"}}, "cannot be written in this model's format"),
        ({"a": {"enum": ["x\n</parameter>"]}}, "none of the values of the argument 'a'"),
    ],
)
def test_what_tags_cannot_say_is_refused(properties: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tagged("", properties)


def test_a_control_character_is_a_value_like_any_other() -> None:
    text = "<parameter=a>\n\x7f\n</parameter>\n"
    assert calls_of(tagged(text, {"a": {"enum": ["\x7f"]}})) == [("f", {"a": "\x7f"})]


@pytest.mark.parametrize("space", ["\t", "\u3000", "\x1f\n"])
def test_no_white_space_hides_a_call_that_stands_for_the_answer(space: str) -> None:
    prompt = ChatPrompt(messages=HELLO, tools=[NOW])
    text = space + '{"name": "never", "parameters": {}}'
    completion = says(text, prompt, source("llama3")).chat(prompt, GREEDY)
    assert completion.tool_calls == ()
    assert not completion.text.lstrip().startswith('{"name"')


def test_the_place_of_a_call_that_was_told_is_its_own() -> None:
    reader = CallReader(FAMILIES["hermes"], {"now": {}}, is_certain=True)
    text = '<tool_call>\n{"name": "now", "arguments": 3<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    deltas = [call for character in text for call in reader.push(character).calls]
    assert [delta.place for delta in deltas if delta.id] == [0, 1]
    assert reader.num_calls == 1


def test_what_might_have_begun_a_stop_string_is_said_before_a_call() -> None:
    prompt = ChatPrompt(messages=HELLO, tools=TOOLS, is_parallel=False)
    text = '네 끝<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    params = SamplingParams(temperature=0, max_tokens=400, stop="끝!")
    completion = says(text, prompt, ChatTemplate.default()).chat(prompt, params)
    assert (completion.text, calls_of(completion)) == ("네 끝", [("now", {})])


def test_blanks_without_end_are_no_call() -> None:
    text = "<tool_call>" + " " * 200 + '{"name": "now", "arguments": {}}\n</tool_call>'
    for pieces in ([text], list(text)):
        assert read(FAMILIES["hermes"], pieces) == (text, [])


class Frozen(Mapping[str, Any]):
    """A mapping, and no more than that."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def test_past_calls_may_stand_in_any_mapping() -> None:
    messages = [Frozen(message) for message in PAST]
    for template, added in TEMPLATES.values():
        llm = babbles(template, *added)
        assert llm.prompt_ids(ChatPrompt(messages=messages)) == llm.prompt_ids(ChatPrompt(messages=PAST))


def test_only_the_marks_of_a_format_are_read_as_text() -> None:
    llm = babbles(ChatTemplate.default(), "<tool_call>", "</tool_call>", "tool_call", "[CALL_ID]")
    marks = llm.builder.chat.marks(calling=True)
    assert {llm.tokenizer.decode([token], skip_special=False) for token in marks} == {
        "<tool_call>", "</tool_call>"
    }  # fmt: skip


def test_a_tool_is_shown_in_nfc() -> None:
    llm = tiny_llm()
    for form in ("NFC", "NFD"):
        described = tool(description=unicodedata.normalize(form, "오늘의 날씨"))
        shown = llm.tokenizer.decode(llm.prompt_ids(ChatPrompt(messages=HELLO, tools=[described])))
        assert "오늘의 날씨" in shown


@pytest.mark.parametrize(
    "raw", ["{{ m.content }}", "{{ m.content | tojson }}", "part {{ m.content if m.content is string }}"]
)
def test_a_template_that_knows_no_parts_is_given_one_text(raw: str) -> None:
    llm = babbles("{% for m in messages %}" + raw + "{% endfor %}")
    in_parts = [{"role": "user", "content": [{"type": "text", "text": "안녕?"}]}]
    assert llm.prompt_ids(in_parts) == llm.prompt_ids(HELLO)
