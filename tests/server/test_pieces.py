"""However an answer is cut into steps, what a stream tells is what the whole answer tells, in each protocol."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import HELLO
from tests.server.scripted import Scripted

from malmoi.engine import SamplingParams
from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta
from malmoi.llm.prompt import ChatPrompt
from malmoi.server.answered import Told
from malmoi.server.anthropic.bodies import MessagesBody
from malmoi.server.anthropic.message import Said
from malmoi.server.catalogue.writer import Chosen
from malmoi.server.ollama.lines import ChatLines
from malmoi.server.openai.chat import ChatForm
from malmoi.server.openai.form import OpenAIAnswer
from malmoi.server.openai.responses_output import Output

PIECES = st.lists(st.text("가나a 😀", min_size=1, max_size=3), max_size=4)
ARGUMENTS = st.dictionaries(
    st.text("가b", max_size=2), st.integers(0, 9) | st.text('다"\\', max_size=2), max_size=2
)


@st.composite
def answers(draw: st.DrawFn) -> Scripted:
    """A thought, words and calls in this order, cut into pieces, and these gathered into steps."""
    atoms = [Delta("", thought=piece) for piece in draw(PIECES)]
    atoms += [Delta(piece) for piece in draw(PIECES)]
    for place, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3))):
        atoms.append(Delta("", calls=[CallDelta(place, f"call_{place}", "함수")]))
        atoms += [Delta("", calls=[CallDelta(place, arguments=letter)]) for letter in json.dumps(arguments)]
    steps: list[Delta] = []
    for atom in atoms:
        if steps and draw(st.booleans()):
            last = steps.pop()
            atom = Delta(
                last.text + atom.text,
                thought=last.thought + atom.thought,
                calls=[*last.calls, *atom.calls],
            )
        steps.append(atom)
    return Scripted(*steps, reason="tool_calls" if any(one.calls for one in steps) else "stop")


def told(answer: Scripted, form: Told) -> list[Mapping[str, Any]]:
    async def items() -> list[Mapping[str, Any]]:
        steps = answer.answer(ChatPrompt(messages=[]), SamplingParams())
        return [item async for item in form.events(steps) if item is not None]

    return asyncio.run(items())


@given(answer=answers())
def test_openais_deltas_make_the_message(answer: Scripted) -> None:
    form = OpenAIAnswer(ChatForm(frozenset()), Chosen(name="a", writer=answer), "a")
    message = form.whole(answer.completion())["choices"][0]["message"]
    deltas = [one["delta"] for item in told(answer, form) for one in item["choices"]]
    calls: dict[int, dict[str, str]] = {}
    for call in (one for delta in deltas for one in delta.get("tool_calls", ())):
        so_far = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
        so_far["id"] += call.get("id", "")
        for name in ("name", "arguments"):
            so_far[name] += call["function"].get(name, "")
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == (message.get(name) or "")
    assert [calls[place] for place in sorted(calls)] == [
        {"id": call["id"], **call["function"]} for call in message.get("tool_calls", ())
    ]


@given(answer=answers())
def test_anthropics_events_make_the_message(answer: Scripted) -> None:
    body = MessagesBody.model_validate({"model": "a", "messages": HELLO, "max_tokens": 9})
    form = Said(Chosen(name="a", writer=answer), body)
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in told(answer, form):
        match event:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert not is_open
                assert index == len(blocks)
                blocks.append({**block, "json": ""})
                is_open = True
            case {"type": "content_block_stop", "index": index}:
                assert index == len(blocks) - 1
                is_open = False
            case {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}:
                [(name, piece)] = delta.items()
                assert index == len(blocks) - 1
                assert kind.removesuffix("_delta") in (name, "input_json")
                blocks[-1]["json" if name == "partial_json" else name] += piece
    assert not is_open
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(text)
    assert blocks == form.whole(answer.completion())["content"]


@given(answer=answers())
def test_the_items_of_a_response_are_the_same(answer: Scripted) -> None:
    output, texts = Output(), dict[int, str]()
    for delta in answer.deltas:
        for kind, event in output.added(delta):
            if kind.endswith(".delta"):
                texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
    for _ in output.ended("completed"):
        pass
    whole = Output.of(answer.completion(), "completed").items
    assert [{**item, "id": ""} for item in output.items] == [{**item, "id": ""} for item in whole]
    for place, item in enumerate(output.items):
        [part] = item.get("summary", item.get("content", [{"text": item.get("arguments")}]))
        assert texts.get(place, "") == part["text"]


@given(answer=answers())
def test_ollamas_lines_make_the_message(answer: Scripted) -> None:
    form = ChatLines("a", {})
    whole = form.whole(answer.completion())["message"]
    lines = [line["message"] for line in told(answer, form)]
    for name in ("content", "thinking"):
        assert "".join(line.get(name, "") for line in lines) == whole.get(name, "")
    assert [call for line in lines for call in line.get("tool_calls", ())] == whole.get("tool_calls", [])
