"""Tools and thoughts in every dialect: real clients read calls and thoughts, and what they ask comes to the model."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import pytest
from openai import BadRequestError
from tests.server.conftest import HELLO, Serve, Served
from tests.server.scripted import CALLS, TEXT, THOUGHT, F, Scripted, thinks_and_calls

from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta
from malmoi.llm.prompt import ChatPrompt
from malmoi.server.anthropic.bodies import CountTokensBody
from malmoi.server.anthropic.prompt import prompt_of as anthropic_prompt_of
from malmoi.server.errors import ServerError
from malmoi.server.openai.chat_bodies import ChatBody
from malmoi.server.openai.responses_bodies import ResponsesBody
from malmoi.server.openai.responses_input import prompt_of as responses_prompt_of
from malmoi.server.tools import function, functions, with_tools
from malmoi.testing.models import ScriptedModel, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "날씨", "description": "날씨를 안다.", "parameters": F}},
    {"type": "function", "function": {"name": "시각", "parameters": {"type": "object", "properties": {}}}},
]


@pytest.fixture(scope="module")
def writer() -> Scripted:
    return thinks_and_calls()


@pytest.fixture(scope="module")
def served(start_server: Serve, writer: Scripted) -> Served:
    return start_server({}, entries={"default": writer})


@pytest.fixture(scope="module")
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def llama(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(served.url) as client:
        yield client


def chat(served: Served, **more: Any) -> Any:
    return served.openai.chat.completions.create(model="default", messages=HELLO, tools=TOOLS, **more)


def test_a_chat_has_the_thought_the_words_and_the_calls(served: Served) -> None:
    answer = chat(served)
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", TEXT)
    assert choice.message.reasoning_content == THOUGHT
    calls = choice.message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == CALLS
    assert {call.type for call in calls} == {"function"}
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2


def test_openais_client_puts_a_streamed_chat_together(served: Served) -> None:
    with served.openai.chat.completions.stream(model="default", messages=HELLO, tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    pieces = [
        event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"
    ]
    assert "".join(pieces) == "".join(call.arguments for call in CALLS)
    [choice] = final.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", TEXT)
    assert [
        (call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()
    ] == CALLS
    deltas = [one.choices[0].delta for one in chat(served, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == THOUGHT


def test_a_message_that_only_calls_has_no_content(serve: Serve) -> None:
    only = Scripted(Delta("", calls=[CallDelta(0, "call_1", "시각", "{}")]), reason="tool_calls")
    served = serve({}, entries={"default": only})
    assert chat(served).choices[0].message.content is None
    assert served.post("/v1/messages", messages=HELLO, max_tokens=9).json()["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "시각", "input": {}}
    ]


def test_the_older_form_calls_one_function(served: Served, writer: Scripted) -> None:
    functions = [one["function"] for one in TOOLS]
    body = {"messages": HELLO, "functions": functions, "function_call": {"name": "날씨"}}
    [choice] = served.post("/v1/chat/completions", **body).json()["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "날씨", "arguments": CALLS[0].arguments}
    assert "tool_calls" not in choice["message"]
    assert (writer.asked.tool_choice, writer.asked.is_parallel) == ("날씨", False)
    deltas = [one["choices"][0] for one in served.chunks("/v1/chat/completions", **body)]
    assert "".join(one["delta"].get("function_call", {}).get("arguments", "") for one in deltas).startswith(
        CALLS[0].arguments
    )
    assert deltas[-1]["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    ("choice", "told", "shown"),
    [
        (None, "auto", 2),
        ("none", "none", 2),
        ("required", "required", 2),
        ({"type": "function", "function": {"name": "시각"}}, "시각", 2),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "시각"}}],
                },
            },
            "required",
            1,
        ),
    ],
    ids=["none given", "none", "required", "named", "allowed"],
)
def test_what_a_chat_chooses_comes_to_the_model(
    served: Served, writer: Scripted, choice: Any, told: str, shown: int
) -> None:
    chat(served, parallel_tool_calls=False, **({} if choice is None else {"tool_choice": choice}))
    assert (writer.asked.tool_choice, writer.asked.is_parallel) == (told, False)
    assert list(writer.asked.tools) == TOOLS[-shown:]


PAST = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": THOUGHT,
        "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in CALLS
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "맑음"},
    {"role": "tool", "tool_call_id": "call_2", "content": "9시"},
]
"""A conversation as a model reads it after its calls have their results."""


def read(writer: Scripted) -> list[dict[str, Any]]:
    """What the model was shown last, without empty contents."""
    return [
        {key: value for key, value in one.items() if value not in ("", None)} for one in writer.asked.messages
    ]


WANTED = [{key: value for key, value in one.items() if value is not None} for one in PAST]


def test_what_was_called_and_came_back_is_read_in_every_dialect(
    served: Served, writer: Scripted, claude: anthropic.Anthropic, llama: ollama.Client
) -> None:
    served.openai.chat.completions.create(model="default", messages=PAST, tools=TOOLS)  # type: ignore[call-overload]
    assert read(writer) == WANTED
    claude.messages.create(
        model="default",
        max_tokens=9,
        messages=[
            *HELLO,  # type: ignore[list-item]
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": THOUGHT, "signature": ""},
                    {"type": "tool_use", "id": "call_1", "name": "날씨", "input": {"도시": "서울"}},
                    {"type": "tool_use", "id": "call_2", "name": "시각", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "맑음"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "9시"},
                ],
            },
        ],
    )
    assert read(writer) == WANTED
    served.openai.responses.create(
        model="default",
        input=[
            *HELLO,  # type: ignore[list-item]
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": THOUGHT}]},
            *({"type": "function_call", "call_id": call.id, **call._asdict()} for call in CALLS),
            {"type": "function_call_output", "call_id": "call_1", "output": "맑음"},
            {"type": "function_call_output", "call_id": "call_2", "output": "9시"},
        ],
    )
    assert read(writer) == WANTED
    calls = [{"function": {"name": one.name, "arguments": json.loads(one.arguments)}} for one in CALLS]
    llama.chat(
        "default",
        [
            *HELLO,
            {"role": "assistant", "thinking": THOUGHT, "tool_calls": calls},
            {"role": "tool", "tool_name": "날씨", "content": "맑음"},
            {"role": "tool", "tool_name": "시각", "content": "9시"},
        ],
    )
    told = read(writer)
    assert [call["function"] for call in told[1]["tool_calls"]] == [
        call["function"] for call in WANTED[1]["tool_calls"]
    ]
    assert [(one["name"], one["content"]) for one in told[2:]] == [("날씨", "맑음"), ("시각", "9시")]


def test_a_result_that_is_an_error_says_so(served: Served, writer: Scripted) -> None:
    failed = {"type": "tool_result", "tool_use_id": "call_1", "content": "없는 도시", "is_error": True}
    said = [*HELLO, {"role": "user", "content": [failed, {"type": "text", "text": "?"}]}]
    assert served.post("/v1/messages", messages=said, max_tokens=9).status_code == 200
    assert list(writer.asked.messages[1:]) == [
        {"role": "tool", "tool_call_id": "call_1", "content": "Error: 없는 도시"},
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
    ]


ANTHROPIC_TOOLS: Any = [
    {"name": "날씨", "description": "날씨를 안다.", "input_schema": F},
    {"name": "시각", "input_schema": {"type": "object", "properties": {}}},
]
BLOCKS = [
    {"type": "thinking", "thinking": THOUGHT, "signature": ""},
    {"type": "text", "text": TEXT},
    {"type": "tool_use", "id": "call_1", "name": "날씨", "input": {"도시": "서울"}},
    {"type": "tool_use", "id": "call_2", "name": "시각", "input": {}},
]


def blocks(message: Any) -> list[dict[str, Any]]:
    assert message.stop_reason == "tool_use"
    names = ("type", "thinking", "signature", "text", "id", "name", "input")
    return [{name: getattr(one, name) for name in names if hasattr(one, name)} for one in message.content]


def test_anthropics_client_reads_blocks_whole_and_streamed(
    claude: anthropic.Anthropic, writer: Scripted
) -> None:
    asked: Any = {"model": "default", "max_tokens": 2000, "messages": HELLO, "tools": ANTHROPIC_TOOLS}
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    assert blocks(claude.messages.create(**asked, thinking=thinking, tool_choice=choice)) == BLOCKS
    assert (writer.asked.thinks, writer.asked.thought_budget) == (True, 1024)
    assert (writer.asked.tool_choice, writer.asked.is_parallel) == ("required", False)
    assert list(writer.asked.tools) == TOOLS
    with claude.messages.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert blocks(final) == BLOCKS
    assert final.usage.input_tokens == 7
    pieces = [event.partial_json for event in events if event.type == "input_json"]
    assert [piece for piece in pieces if piece] == ['{"도시": ', '"서울"}', "{}"]
    assert writer.asked.thinks is None
    claude.messages.create(
        **asked, thinking={"type": "disabled"}, tool_choice={"type": "tool", "name": "시각"}
    )
    assert (writer.asked.thinks, writer.asked.tool_choice) == (False, "시각")
    counted = claude.messages.count_tokens(model="default", messages=HELLO, tools=ANTHROPIC_TOOLS)  # type: ignore[arg-type]
    assert (counted.input_tokens, list(writer.asked.tools)) == (7, TOOLS)


FLAT: Any = [{"type": "function", **one["function"]} for one in TOOLS]


def test_a_response_has_items_whole_and_streamed(served: Served, writer: Scripted) -> None:
    asked: Any = {"model": "default", "input": "안녕?", "tools": FLAT}
    whole = served.openai.responses.create(
        **asked, tool_choice={"type": "function", "name": "날씨"}, reasoning={"effort": "low"}
    )
    whole = type(whole).model_validate(whole.model_dump(exclude_unset=True, by_alias=True))
    assert (writer.asked.tool_choice, writer.asked.thinks, writer.asked.thought_budget) == (
        "날씨",
        True,
        1024,
    )
    assert list(writer.asked.tools) == TOOLS
    with served.openai.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    for answer in (whole, final):
        thought, message, *calls = answer.output
        assert thought.type == "reasoning"
        assert [part.text for part in thought.summary] == [THOUGHT]
        assert message.type == "message"
        assert answer.output_text == TEXT
        assert [(call.call_id, call.name, call.arguments) for call in calls] == CALLS  # type: ignore[union-attr]
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = {kind for kind in kinds if kind.endswith(".delta")}
    assert deltas == {"reasoning_summary_text.delta", "output_text.delta", "function_call_arguments.delta"}
    assert [kind for kind in kinds if kind not in deltas] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.done",
        "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    places = [event.output_index for event in events if hasattr(event, "output_index")]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2, 3}


def test_a_kept_answer_goes_on_with_its_calls(served: Served, writer: Scripted) -> None:
    first = served.openai.responses.create(model="default", input="안녕?", tools=FLAT)
    results: Any = [
        {"type": "function_call_output", "call_id": "call_1", "output": "맑음"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "9시"}],
        },
    ]
    served.openai.responses.create(model="default", input=results, tools=FLAT, previous_response_id=first.id)
    wanted = [dict(one) for one in WANTED]
    wanted[1]["content"], wanted[3]["content"] = TEXT, [{"type": "text", "text": "9시"}]
    assert read(writer) == wanted


def test_ollamas_client_reads_calls_as_objects(llama: ollama.Client, writer: Scripted) -> None:
    asked: Any = {"model": "default", "messages": HELLO, "tools": TOOLS, "think": "low"}
    whole = llama.chat(**asked)
    assert (writer.asked.thinks, writer.asked.thought_budget) == (True, 1024)
    assert [one["function"]["name"] for one in writer.asked.tools] == ["날씨", "시각"]
    lines = list(llama.chat(**asked, stream=True))
    for messages in ([whole.message], [line.message for line in lines]):
        assert "".join(one.content or "" for one in messages) == TEXT
        assert "".join(one.thinking or "" for one in messages) == THOUGHT
        calls = [call.function for one in messages for call in one.tool_calls or ()]
        assert [(call.name, call.arguments) for call in calls] == [("날씨", {"도시": "서울"}), ("시각", {})]
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert (whole.done_reason, lines[-1].done_reason) == ("stop", "stop")
    told = llama.generate("default", "안녕?", think=True)
    assert (told.response, told.thinking) == (TEXT, THOUGHT)


def test_a_developer_is_the_system_and_a_function_is_a_tool(served: Served, writer: Scripted) -> None:
    said = [
        {"role": "developer", "content": "짧게"},
        *HELLO,
        {"role": "function", "name": "f", "content": "1"},
    ]
    assert served.post("/v1/chat/completions", messages=said).status_code == 200
    assert [one["role"] for one in writer.asked.messages] == ["system", "user", "tool"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": "f"},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "user", "content": "?", "mood": "good"},
        {"role": "assistant", "content": "?", "prefix": "yes"},
    ],
    ids=str,
)
def test_a_message_with_what_nobody_reads_is_refused(served: Served, message: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as caught:
        served.openai.chat.completions.create(model="default", messages=[*HELLO, message])  # type: ignore[list-item]
    assert caught.value.param == "messages"


def test_a_model_that_writes_a_call_calls_in_every_dialect(serve: Serve) -> None:
    """The same from the model's own text: no stand-in between."""
    tokenizer = ByteTokenizer()
    said = f'{TEXT}\n<tool_call>\n{{"name": "날씨", "arguments": {{"도시": "서울"}}}}\n</tool_call>'
    script = [*tokenizer.encode(said), tokenizer.special_tokens["<|im_end|>"]]
    num_prompt = len(tiny_llm().builder.prompt_ids(ChatPrompt(messages=HELLO, tools=TOOLS)))
    served = serve(tiny_llm(ScriptedModel(script, num_prompt=num_prompt)))
    asked = {"model": "default", "temperature": 0}
    chat = {**asked, "messages": HELLO, "tools": TOOLS}
    message = served.post("/v1/chat/completions", **chat).json()["choices"][0]["message"]
    deltas = [one["choices"][0]["delta"] for one in served.chunks("/v1/chat/completions", **chat)]
    pieces = [call for delta in deltas for call in delta.get("tool_calls", ())]
    calls = [call["function"] for call in message["tool_calls"]]
    assert message["content"].strip() == TEXT
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [("날씨", {"도시": "서울"})]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == calls[0]["arguments"]
    assert len(pieces) > 3
    blocks = served.post(
        "/v1/messages", **asked, max_tokens=400, messages=HELLO, tools=ANTHROPIC_TOOLS
    ).json()["content"]
    assert [(block["type"], block.get("input")) for block in blocks] == [
        ("text", None),
        ("tool_use", {"도시": "서울"}),
    ]
    items = served.post("/v1/responses", **asked, input="안녕?", tools=FLAT).json()["output"]
    assert [(item["type"], item.get("arguments")) for item in items] == [
        ("message", None),
        ("function_call", calls[0]["arguments"]),
    ]
    told = served.post("/api/chat", model="default", messages=HELLO, tools=TOOLS, stream=False).json()
    assert told["message"]["tool_calls"][0]["function"] == {"name": "날씨", "arguments": {"도시": "서울"}}


def test_how_strictly_a_schema_is_meant_reaches_the_model() -> None:
    asked = {"role": "user", "content": "몇 시?"}
    for strict in (False, True):
        more = {"strict": True} if strict else {}
        body = ChatBody.model_validate(
            {
                "model": "m",
                "messages": [asked],
                "tools": [{"type": "function", "function": {"name": "시각", **more}}],
            }
        )
        claudes = CountTokensBody.model_validate(
            {"model": "m", "messages": [asked], "tools": [{"name": "시각", "input_schema": F, **more}]}
        )
        flat = ResponsesBody.model_validate(
            {"model": "m", "input": "몇 시?", "tools": [{"type": "function", "name": "시각", **more}]}
        )
        told = [
            *functions(body.tools),
            *anthropic_prompt_of(claudes).tools,
            *responses_prompt_of(flat, [asked]).tools,
        ]
        assert [one["function"].get("strict", False) for one in told] == [strict] * 3


def test_so_many_tools_are_refused_at_once() -> None:
    prompt = ChatPrompt(messages=HELLO)
    told = [function(f"f{number}", "", F) for number in range(1025)]
    assert len(with_tools(prompt, told[1:]).tools) == 1024
    with pytest.raises(ServerError, match="tools has 1,025, and 1,024 are the most"):
        with_tools(prompt, told)
