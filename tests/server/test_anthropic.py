"""Anthropic's own client reads what /v1/messages writes: messages, events, counts and errors."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from PIL import Image
from tests.server.conftest import HELLO, Serve, Served

from malmoi.engine import SamplingParams
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

SAID = "한글은 말모이."
END_OF_TURN = ByteTokenizer().special_tokens["<|im_end|>"]
ASKED: dict[str, Any] = {"model": "default", "max_tokens": 64, "messages": HELLO}


@pytest.fixture(scope="module")
def scripted(start_server: Serve) -> Served:
    """A server whose model answers `HELLO` with `SAID`."""
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    script = [*ByteTokenizer().encode(SAID), END_OF_TURN]
    return start_server(tiny_llm(ScriptedModel(script, num_prompt=num_prompt)), api_keys=("key",))


@pytest.fixture(scope="module")
def client(scripted: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=scripted.url, api_key="key", max_retries=0, timeout=60) as client:
        yield client


def strictly(answer: Any) -> Any:
    """`answer`, which the client has only taken apart, checked against its own types."""
    return type(answer).model_validate(answer.model_dump(), strict=True)


def test_a_message_is_what_the_model_says(scripted: Served, client: anthropic.Anthropic) -> None:
    message = strictly(client.messages.create(**ASKED))
    assert [(block.type, block.text) for block in message.content] == [("text", SAID)]
    assert (message.role, message.model, message.stop_reason, message.stop_sequence) == (
        "assistant", "default", "end_turn", None,
    )  # fmt: skip
    num_prompt = len(scripted.llm.builder.prompt_ids(HELLO))
    assert (message.usage.input_tokens, message.usage.output_tokens) == (num_prompt, len(SAID.encode()) + 1)


def test_the_events_of_a_stream_make_the_same_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(**ASKED)
    assert "".join(pieces) == SAID
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    names = ("content", "role", "model", "stop_reason", "stop_sequence", "usage")
    assert [final.model_dump()[name] for name in names] == [whole.model_dump()[name] for name in names]


def test_events_come_in_the_order_of_the_protocol(client: anthropic.Anthropic) -> None:
    with client.messages.create(**ASKED, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    ("more", "reason", "text"),
    [
        ({"max_tokens": 3}, ("max_tokens", None), "한"),
        ({"stop_sequences": ["모이", "말"]}, ("stop_sequence", "말"), "한글은 "),
        ({"stop_sequences": ["없는"]}, ("end_turn", None), SAID),
    ],
    ids=["length", "stop", "end"],
)
def test_it_says_why_it_stopped(
    client: anthropic.Anthropic, more: dict[str, Any], reason: tuple[str, str | None], text: str
) -> None:
    message = client.messages.create(**{**ASKED, **more})
    assert (message.stop_reason, message.stop_sequence) == reason
    assert message.content[0].text == text  # type: ignore[union-attr]
    with client.messages.stream(**{**ASKED, **more}) as stream:
        assert (stream.get_final_message().stop_reason, stream.get_final_message().stop_sequence) == reason


def test_a_system_prompt_and_blocks_are_read_as_their_messages(
    tiny: Served, client: anthropic.Anthropic
) -> None:
    system = [{"type": "text", "text": "짧게", "cache_control": {"type": "ephemeral"}}]
    blocks = [{"role": "user", "content": [{"type": "text", "text": "안녕?"}]}]
    for told in ("짧게", system):
        counted = client.messages.count_tokens(model="default", system=told, messages=blocks)  # type: ignore[arg-type]
        said = [{"role": "system", "content": "짧게"}, *HELLO]
        assert counted.input_tokens == len(tiny.llm.builder.prompt_ids(said))


def test_blocks_as_clients_send_them_back_are_read(tiny: Served, client: anthropic.Anthropic) -> None:
    thought = {"type": "thinking", "thinking": "음", "signature": ""}
    text = {"type": "text", "text": "네", "citations": None, "cache_control": {"type": "ephemeral"}}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}, "caller": {"type": "direct"}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "b", "toolset_name": None}
    talk: Any = [
        *HELLO, {"role": "assistant", "content": [thought, text, call]}, {"role": "user", "content": [result]},
    ]  # fmt: skip
    assert client.messages.count_tokens(model="default", messages=talk).input_tokens > 0


def test_a_stop_of_the_models_own_is_replaced_and_never_told_as_the_clients(serve: Serve) -> None:
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    script = [*ByteTokenizer().encode(SAID), END_OF_TURN]
    llm = tiny_llm(ScriptedModel(script, num_prompt=num_prompt))
    llm.default_params = SamplingParams(stop="말")
    served = serve(llm)
    body = {"messages": HELLO, "max_tokens": 64}
    own = served.post("/v1/messages", **body).json()
    assert (own["content"][0]["text"], own["stop_reason"], own["stop_sequence"]) == (
        "한글은 ",
        "end_turn",
        None,
    )
    asked = served.post("/v1/messages", **body, stop_sequences=["이"]).json()
    assert (asked["content"][0]["text"], asked["stop_sequence"]) == ("한글은 말모", "이")


def test_parameters_do_what_they_do_elsewhere(tiny: Served) -> None:
    wanted = tiny.llm.chat(HELLO, SamplingParams(temperature=0, top_k=3, top_p=0.9, max_tokens=8)).text
    body = {"messages": HELLO, "max_tokens": 8, "temperature": 0, "top_k": 3, "top_p": 0.9}
    assert tiny.post("/v1/messages", **body).json()["content"][0]["text"] == wanted


def test_an_answer_has_the_form_that_is_asked_for(tiny: Served) -> None:
    schema = {"type": "object", "properties": {"수": {"const": 1}}, "required": ["수"]}
    schema["additionalProperties"] = False  # type: ignore[assignment]
    form = {"format": {"type": "json_schema", "schema": schema}}
    body = {"messages": HELLO, "max_tokens": 64, "output_config": form}
    assert tiny.post("/v1/messages", **body).json()["content"][0]["text"].replace(" ", "") == '{"수":1}'


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"extra_body": {"temperature": -1}}, "temperature"),
        ({"extra_body": {"no_such_thing": 1}}, "no_such_thing"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"effort": "low"}}, "output_config"),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "disabled"}}, "output_config"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "document"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "mood": "good"}]}]},
            "mood",
        ),
        (
            {"messages": [{"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {}, "toolset_name": "g"}
            ]}]},
            "toolset_name",
        ),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "a", "content": "b"}
            ]}]},
            "tool_result first",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://a"}}]}]},
            "takes no images",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_done_is_a_bad_request_that_names_it(
    client: anthropic.Anthropic, more: dict[str, Any], word: str
) -> None:
    for options in ({}, {"stream": True}):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**{**ASKED, **more, **options})
        error = caught.value.body
        assert isinstance(error, dict)
        assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
        assert word in error["error"]["message"]


def test_an_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        client.messages.create(**{**ASKED, "model": "nobody"})


def test_without_its_key_nobody_comes_in(scripted: Served) -> None:
    with (
        anthropic.Anthropic(base_url=scripted.url, api_key="wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(**ASKED)


def test_an_image_in_base64_goes_to_a_model_that_sees_and_no_other(tiny: Served) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(file.getvalue()).decode()}
    asked = [
        {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "?"}]}
    ]
    response = tiny.post("/v1/messages", messages=asked, max_tokens=4)
    assert response.status_code == 400
    assert "text alone" in response.json()["error"]["message"]


def test_who_leaves_a_stream_ends_the_request(serve: Serve) -> None:
    served = serve(tiny_llm(tiny_llama(max_positions=8192)))
    body = {"messages": HELLO, "max_tokens": 8000, "stream": True}
    with served.http.stream("POST", "/v1/messages", json=body) as response:
        next(response.iter_lines())
    served.until_idle()
    assert served.num_blocks_in_use == 0
