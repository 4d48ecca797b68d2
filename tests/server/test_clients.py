"""Real clients and a model that writes calls and thoughts itself: what their helpers make of its text, in any cut."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from pydantic import BaseModel
from tests.llm.thinkers import THINK, says, source
from tests.server.conftest import HELLO, Serve, Served

from malmoi.llm import LLM, ChatPrompt
from malmoi.server.tools import function
from malmoi.testing.models import tiny_llama, tiny_llm


class 날씨(BaseModel):
    """날씨를 안다."""

    도시: str
    며칠: int


class 수(BaseModel):
    짝수: bool


TOOL: Any = openai.pydantic_function_tool(날씨)
OF_OLLAMA: Any = ollama.Tool.model_validate(TOOL).model_dump(exclude_none=True)
"""The same as its client sends it, which leaves things out."""
OF_ANTHROPIC: Any = {
    "max_tokens": 900,
    "extra_body": {"temperature": 0},
    "tools": [
        {
            "name": TOOL["function"]["name"],
            "description": TOOL["function"]["description"],
            "input_schema": TOOL["function"]["parameters"],
        }
    ],
}
"""Beside the model and the messages."""
CALLED = {"도시": '서울 "한강" 👨‍👩‍👧‍👦\n꿻', "며칠": 3}
TEXT, THOUGHT = "잠깐만요, 알아볼게요.", "서울이라… 👍🏽 날씨를 물어야지."


def calling(tool: Any, *, thought: str = "") -> LLM:
    """A model of a family that thinks and calls, which thinks, says something and calls, shown `tool`."""
    call = json.dumps({"name": "날씨", "arguments": CALLED}, ensure_ascii=False)
    text = f"{TEXT}\n<tool_call>\n{call}\n</tool_call>"
    text = f"<think>\n{thought}\n</think>\n\n{text}" if thought else text
    told = tool["function"]
    shown = function(told["name"], told["description"], told["parameters"])
    prompt = ChatPrompt(messages=HELLO, tools=(shown,))
    return says(text, prompt, source("qwen3"), *THINK, "<tool_call>", "</tool_call>")


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    models: dict[str, Any] = {
        "calls": calling(TOOL),
        "thinks": calling(TOOL, thought=THOUGHT),
        "thinks, as ollama asks": calling(OF_OLLAMA, thought=THOUGHT),
        "tiny": tiny_llm(tiny_llama(max_positions=1024)),
    }
    return start_server(models)


def joined(pieces: Iterable[str]) -> str:
    """The text that pieces make, of which none has half a letter."""
    pieces = list(pieces)
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    return "".join(pieces)


def test_openais_stream_parses_the_arguments_of_a_tool(served: Served) -> None:
    with served.openai.chat.completions.stream(
        model="calls", messages=HELLO, tools=[TOOL], temperature=0
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [날씨(**CALLED)]
    pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert len(pieces) > 20
    assert joined(pieces) == done[0].arguments
    [choice] = final.choices
    assert (choice.message.content or "").strip() == TEXT
    assert choice.finish_reason == "tool_calls"


def test_openais_parse_makes_an_object_of_an_answer_and_of_a_call(served: Served) -> None:
    asked: dict[str, Any] = {"messages": HELLO, "temperature": 0}
    called = served.openai.chat.completions.parse(model="calls", tools=[TOOL], **asked).choices[0].message
    assert [call.function.parsed_arguments for call in called.tool_calls or ()] == [날씨(**CALLED)]
    told = served.openai.beta.chat.completions.parse(
        model="tiny", messages=HELLO, response_format=수, seed=1, max_tokens=200
    )
    assert isinstance(told.choices[0].message.parsed, 수)


def test_openais_responses_parse_too(served: Served) -> None:
    asked: dict[str, Any] = {"input": "안녕?", "temperature": 0}
    told = served.openai.responses.parse(model="tiny", text_format=수, max_output_tokens=200, **asked)
    assert isinstance(told.output_parsed, 수)
    flat: Any = {"type": "function", **TOOL["function"]}
    with served.openai.responses.stream(model="calls", tools=[flat], **asked) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        [call] = [item for item in stream.get_final_response().output if item.type == "function_call"]
    assert json.loads(call.arguments) == CALLED
    assert joined(pieces) == call.arguments


@pytest.fixture(scope="module")
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_anthropics_stream_has_the_call_in_pieces(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="calls", messages=HELLO, **OF_ANTHROPIC) as stream:  # type: ignore[arg-type]
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    text, call = final.content
    assert (text.type, call.type, final.stop_reason) == ("text", "tool_use", "tool_use")
    assert text.text.strip() == TEXT
    assert call.input == CALLED
    assert json.loads(joined(pieces)) == CALLED


def test_a_thought_is_apart_from_words_and_calls_in_every_dialect(
    served: Served, claude: anthropic.Anthropic
) -> None:
    asked: dict[str, Any] = {"model": "thinks", "messages": HELLO, "temperature": 0}
    heard: dict[str, tuple[list[str], list[str]]] = {}
    with served.openai.chat.completions.create(**asked, tools=[TOOL], stream=True) as stream:
        deltas = [chunk.choices[0].delta for chunk in stream]
    heard["openai"] = (
        [getattr(delta, "reasoning_content", None) or "" for delta in deltas],
        [delta.content or "" for delta in deltas],
    )
    with claude.messages.stream(model="thinks", messages=HELLO, **OF_ANTHROPIC) as events:  # type: ignore[arg-type]
        said = list(events)
    heard["anthropic"] = (
        [event.thinking for event in said if event.type == "thinking"],
        [event.text for event in said if event.type == "text"],
    )
    with ollama.Client(served.url) as client:
        answer = client.chat(
            "thinks, as ollama asks", HELLO, tools=[dict(TOOL)], options={"temperature": 0}, stream=True
        )
        lines = [line.message for line in answer]
    calls = [call.function for one in lines for call in one.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [("날씨", CALLED)]
    heard["ollama"] = ([one.thinking or "" for one in lines], [one.content or "" for one in lines])
    for name, (thought, text) in heard.items():
        assert joined(thought).strip() == THOUGHT, name
        assert joined(text).strip() == TEXT, name
        assert len(list(filter(None, thought))) > 5
