"""OpenAI's own client reads what /v1/responses writes, and goes on with what the server has kept."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from tests.server.conftest import HELLO, Serve, Served

from malmoi.engine import SamplingParams
from malmoi.server.openai import responses
from malmoi.server.openai.kept import Kept, Shelf
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

SAID = "한글은 말모이."
END_OF_TURN = ByteTokenizer().special_tokens["<|im_end|>"]
GREEDY: dict[str, Any] = {"model": "default", "temperature": 0, "max_output_tokens": 6}
PARAMS = SamplingParams(temperature=0, max_tokens=6)


@pytest.fixture(scope="module")
def scripted(start_server: Serve) -> Served:
    """A server whose model answers `HELLO` with `SAID`."""
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    script = [*ByteTokenizer().encode(SAID), END_OF_TURN]
    return start_server(tiny_llm(ScriptedModel(script, num_prompt=num_prompt)))


def ask(served: Served, given: Any, **more: Any) -> Response:
    answer: Response = served.openai.responses.create(**{**GREEDY, "input": given, **more})
    return type(answer).model_validate(answer.model_dump(exclude_unset=True, by_alias=True))


def test_a_response_is_what_the_model_says(scripted: Served) -> None:
    answer = ask(scripted, "안녕?", max_output_tokens=None, metadata={"a": "b"})
    assert (answer.output_text, answer.status, answer.incomplete_details) == (SAID, "completed", None)
    assert (answer.model, answer.metadata, answer.object) == ("default", {"a": "b"}, "response")
    assert answer.usage is not None
    num_prompt = len(scripted.llm.builder.prompt_ids(HELLO))
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (num_prompt, len(SAID.encode()) + 1)


def test_the_events_of_a_stream_make_the_same_response(scripted: Served) -> None:
    with scripted.openai.responses.create(model="default", input="안녕?", stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == SAID
    kinds = [event.type.removeprefix("response.") for event in events]
    assert [kind for kind in kinds if kind != "output_text.delta"] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.done", "content_part.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    last = events[-1].response  # type: ignore[union-attr]
    assert last.output_text == SAID
    assert last.id == events[0].response.id  # type: ignore[union-attr]
    assert scripted.openai.responses.retrieve(last.id).output == last.output


def test_what_is_cut_off_is_incomplete(tiny: Served) -> None:
    answer = ask(tiny, "안녕?")
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]


def test_a_conversation_goes_on_after_what_was_kept(tiny: Served) -> None:
    """The model reads all messages; instructions are those of one request."""
    first = ask(tiny, "안녕?", instructions="짧게")
    second = ask(tiny, [{"role": "user", "content": "또"}], previous_response_id=first.id)
    told = [{"role": "system", "content": "짧게"}]
    assert first.output_text == tiny.llm.chat([*told, *HELLO], PARAMS).text
    said = [*HELLO, {"role": "assistant", "content": first.output_text}, {"role": "user", "content": "또"}]
    assert second.output_text == tiny.llm.chat(said, PARAMS).text
    assert second.previous_response_id == first.id
    streamed = tiny.openai.responses.create(**GREEDY, input="또", previous_response_id=first.id, stream=True)
    assert list(streamed)[-1].response.output_text == second.output_text


def test_parts_and_developers_are_read_as_chats_have_them(tiny: Served) -> None:
    given = [
        {"role": "developer", "content": "짧게"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "안녕?"}]},
    ]
    assert ask(tiny, given).output_text == ask(tiny, "안녕?", instructions="짧게").output_text


def test_items_as_clients_send_them_back_are_read(tiny: Served) -> None:
    text = {"type": "output_text", "text": "네", "annotations": [], "logprobs": []}
    back = {"id": "msg_1", "status": "completed", "role": "assistant", "phase": None, "content": [text]}
    call = {
        "type": "function_call",
        "id": "fc_1",
        "status": "completed",
        "call_id": "1",
        "name": "f",
        "arguments": "{}",
    }
    result = {
        "type": "function_call_output",
        "id": None,
        "call_id": "1",
        "output": "b",
        "caller": {"type": "direct"},
    }
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "encrypted_content": None,
        "status": "completed",
    }
    again = {"role": "user", "content": [{"type": "input_text", "text": "또"}]}
    assert ask(tiny, [*HELLO, thought, back, call, result, again]).status == "incomplete"


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"a": "\ud800"}},
        {"instructions": "\ud800"},
        {"tools": [{"type": "function", "name": "f", "description": "\ud800"}], "tool_choice": "none"},
    ],
    ids=["metadata", "instructions", "tools"],
)
def test_half_a_character_that_would_come_back_is_refused_before_the_work(
    tiny: Served, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    steps = []
    monkeypatch.setattr(tiny.llm.engine, "step", lambda: steps.append(1))
    response = tiny.http.post(
        "/v1/responses",
        content=json.dumps({"input": "a", **more}),
        headers={"Content-Type": "application/json"},
    )
    assert (response.status_code, steps) == (400, [])
    assert "half a character" in response.json()["error"]["message"]


def test_an_answer_has_the_form_that_is_asked_for(tiny: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"수": {"const": 1}},
        "required": ["수"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "수", "schema": schema}}
    assert ask(tiny, "안녕?", text=form, max_output_tokens=64).output_text.replace(" ", "") == '{"수":1}'


def test_what_is_not_to_be_kept_or_was_deleted_is_not_there(tiny: Served) -> None:
    unkept, deleted = ask(tiny, "안녕?", store=False), ask(tiny, "안녕?")
    assert (unkept.store, deleted.store) == (False, True)  # type: ignore[attr-defined]
    tiny.openai.responses.delete(deleted.id)
    for one in (unkept, deleted):
        with pytest.raises(openai.NotFoundError, match=one.id):
            tiny.openai.responses.retrieve(one.id)
        with pytest.raises(openai.NotFoundError, match="Send the whole conversation"):
            ask(tiny, "또", previous_response_id=one.id)


def test_the_shelf_keeps_so_many_and_the_oldest_go(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_COUNT", 2)
    served = serve(tiny_llm())
    first, second, third = (ask(served, "안녕?") for _ in range(3))
    with pytest.raises(openai.NotFoundError):
        served.openai.responses.retrieve(first.id)
    assert served.openai.responses.retrieve(second.id).id == second.id
    assert served.openai.responses.retrieve(third.id).id == third.id


def test_the_shelf_is_bounded_in_bytes_and_never_over() -> None:
    shelf = Shelf(max_count=100, max_bytes=1000)
    for number in range(50):
        shelf.put(str(number), Kept(answer={"a": "가" * number}, conversation=[]))
        assert shelf.num_bytes <= 1000
    assert 0 < len(shelf) < 50
    assert shelf.get("49").answer == {"a": "가" * 49}
    assert not shelf.put("big", Kept(answer={"a": "a" * 2000}, conversation=[]))
    assert len(shelf) > 0
    for id in list(map(str, range(50))):
        if id in shelf._kept:
            shelf.delete(id)
    assert (len(shelf), shelf.num_bytes) == (0, 0)


def test_what_is_used_stays_longest() -> None:
    shelf = Shelf(max_count=2, max_bytes=1000)
    for id in "ab":
        shelf.put(id, Kept(answer={"id": id}, conversation=[]))
    shelf.get("a")
    shelf.put("c", Kept(answer={"id": "c"}, conversation=[]))
    assert shelf.get("a").answer == {"id": "a"}


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"reasoning": {"summary": "concise"}}, "reasoning"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True}, "background"),
        ({"temperature": -1}, "temperature"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input_text"),
        ({"input": [{"role": "user", "content": "a", "mood": "good"}]}, "mood"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a", "mood": "b"}]}]},
            "mood",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b", "mood": "c"}]}, "mood"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://a"}]}]},
            "image",
        ),
        ({"text": {"format": {"type": "xml"}}}, "xml"),
        ({"text": {"verbosity": "low"}}, "verbosity"),
        ({"extra_body": {"no_such_thing": 1}}, "no_such_thing"),
    ],
    ids=str,
)
def test_what_is_not_done_is_a_bad_request_that_names_it(
    tiny: Served, more: dict[str, Any], word: str
) -> None:
    for options in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError, match=word):
            tiny.openai.responses.create(**{**GREEDY, "input": "a", **more, **options})


def test_a_model_that_fails_on_the_way_ends_the_stream_with_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(tiny_llm(tiny_llama()))
    monkeypatch.setattr(served.llm.engine, "step", lambda: 1 / 0)
    with served.openai.responses.create(model="default", input="a", stream=True) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert "log" in last.response.error.message
