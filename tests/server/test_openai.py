"""OpenAI's own client reads what the server writes: its types, its numbers, its errors."""

from typing import Any

import openai
import pytest
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.server.conftest import HELLO, Serve, Served

from malmoi.engine import SamplingParams
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

SAID = "한글은 말모이."
END_OF_TURN = ByteTokenizer().special_tokens["<|im_end|>"]


@pytest.fixture(scope="module")
def scripted(start_server: Serve) -> Served:
    """A server whose model answers `HELLO` with `SAID`."""
    tokenizer = ByteTokenizer()
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    return start_server(
        tiny_llm(ScriptedModel([*tokenizer.encode(SAID), END_OF_TURN], num_prompt=num_prompt))
    )


def chat(served: Served, **options: Any) -> ChatCompletion:
    completion: ChatCompletion = served.openai.chat.completions.create(
        model="default", messages=HELLO, **options
    )
    return completion


def chat_stream(served: Served, **options: Any) -> list[ChatCompletionChunk]:
    with served.openai.chat.completions.create(
        model="default", messages=HELLO, stream=True, **options
    ) as stream:
        return list(stream)


def strictly(answer: Any) -> Any:
    """`answer`, which the client has only taken apart, checked against its own types."""
    return type(answer).model_validate(answer.model_dump(), strict=True)


def test_a_chat_is_a_chat_completion(scripted: Served) -> None:
    answer = strictly(chat(scripted, temperature=0))
    assert (answer.object, answer.model) == ("chat.completion", "default")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", SAID)
    num_new = len(SAID.encode()) + 1
    num_prompt = len(scripted.llm.builder.prompt_ids(HELLO))
    assert answer.usage == CompletionUsage(
        prompt_tokens=num_prompt,
        completion_tokens=num_new,
        total_tokens=num_prompt + num_new,
        prompt_tokens_details={"cached_tokens": answer.usage.prompt_tokens_details.cached_tokens},
        completion_tokens_details={"reasoning_tokens": 0},
    )


def test_a_stream_says_the_same_in_chunks_and_the_last_has_the_usage(scripted: Served) -> None:
    chunks = [
        strictly(one) for one in chat_stream(scripted, temperature=0, stream_options={"include_usage": True})
    ]
    assert {(chunk.id, chunk.object, chunk.model, chunk.created) for chunk in chunks} == {
        (chunks[0].id, "chat.completion.chunk", "default", chunks[0].created)
    }
    *told, last = chunks
    assert told[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == SAID
    assert [chunk.choices[0].finish_reason for chunk in told] == [None] * (len(told) - 1) + ["stop"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(SAID.encode()) + 1


def test_without_being_asked_a_stream_has_no_usage(scripted: Served) -> None:
    chunks = chat_stream(scripted, temperature=0)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@pytest.mark.parametrize("is_stream", [False, True])
def test_logprobs_have_the_bytes_of_the_text(scripted: Served, is_stream: bool) -> None:
    asked = {"temperature": 0, "logprobs": True, "top_logprobs": 3}
    if is_stream:
        found = [chunk.choices[0].logprobs for chunk in chat_stream(scripted, **asked)]
        tokens = [token for one in found if one is not None for token in one.content or ()]
    else:
        whole = chat(scripted, **asked).choices[0].logprobs
        assert whole is not None
        tokens = whole.content or []
    assert bytes(byte for token in tokens for byte in token.bytes or ()) == SAID.encode()
    assert [token.token for token in tokens[:4]] == [r"\xed", r"\x95", r"\x9c", r"\xea"]
    assert tokens[-1].bytes is None  # the end of the turn: it adds nothing
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.top_logprobs[0].logprob == token.logprob > -1e-6 for token in tokens)


def test_several_answers_have_their_places(tiny: Served) -> None:
    asked = {"n": 3, "seed": 7, "max_tokens": 12}
    whole = chat(tiny, **asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    streamed = ["", "", ""]
    for chunk in chat_stream(tiny, **asked):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 36


def test_a_seed_gives_the_same_answer_and_another_one_another(tiny: Served) -> None:
    one, same, other = (chat(tiny, seed=seed, max_tokens=20).choices[0].message.content for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_stop_string_ends_the_text_before_it(scripted: Served, is_stream: bool) -> None:
    asked = {"temperature": 0, "stop": ["없다", "말모"]}
    if is_stream:
        chunks = chat_stream(scripted, **asked)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "한글은 "
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        choice = chat(scripted, **asked).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("한글은 ", "stop")


def test_max_tokens_by_either_name_end_an_answer(scripted: Served) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        choice = chat(scripted, temperature=0, **{name: 6}).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("한글", "length")


def test_logit_bias_forbids_a_token(scripted: Served) -> None:
    first = scripted.llm.tokenizer.encode(SAID)[0]
    answer = chat(scripted, temperature=0, max_tokens=1, logprobs=True, logit_bias={str(first): -100})
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].token != r"\xed"


def test_response_format_is_kept(tiny: Served) -> None:
    schema = {"type": "object", "properties": {"네": {"type": "boolean"}}, "required": ["네"]}
    schema["additionalProperties"] = False  # type: ignore[assignment]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    content = chat(tiny, seed=1, response_format=form).choices[0].message.content
    assert content is not None
    assert "".join(content.split()) in ('{"네":true}', '{"네":false}')


def test_a_text_completion_is_the_models_own_whole_and_streamed(tiny: Served) -> None:
    asked: dict[str, Any] = {
        "model": "default",
        "prompt": "말모이",
        "seed": 3,
        "max_tokens": 15,
        "logprobs": 2,
    }
    choice = strictly(tiny.openai.completions.create(**asked)).choices[0]
    alone = tiny_llm(tiny_llama(max_positions=512))
    wanted = alone.generate("말모이", SamplingParams(seed=3, max_tokens=15, logprobs=2))
    assert (choice.text, choice.finish_reason) == (wanted.text, wanted.finish_reason)
    assert wanted.logprobs is not None
    assert choice.logprobs.token_logprobs == pytest.approx([one.logprob for one in wanted.logprobs])
    assert [len(top) for top in choice.logprobs.top_logprobs] == [2] * 15
    with tiny.openai.completions.create(**asked, stream=True) as stream:
        chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == choice.text
    logprobs = [chunk.logprobs for chunk in chunks if chunk.logprobs is not None]
    assert [token for one in logprobs for token in one.tokens] == choice.logprobs.tokens
    assert [at for one in logprobs for at in one.text_offset] == choice.logprobs.text_offset


@pytest.mark.parametrize("is_stream", [False, True])
def test_stop_strings_end_a_text_completion_too(serve: Serve, is_stream: bool) -> None:
    tokenizer = ByteTokenizer()
    served = serve(tiny_llm(ScriptedModel([*tokenizer.encode("하나\n\n둘"), 0], num_prompt=1)))
    asked: dict[str, Any] = {"prompt": "?", "temperature": 0, "stop": "\n\n"}
    if is_stream:
        choices = [chunk["choices"][0] for chunk in served.chunks("/v1/completions", **asked)]
    else:
        choices = served.post("/v1/completions", **asked).json()["choices"]
    assert "".join(choice["text"] for choice in choices) == "하나"
    assert choices[-1]["finish_reason"] == "stop"


def test_the_models_are_listed_and_found(tiny: Served) -> None:
    (model,) = tiny.openai.models.list().data
    assert (model.id, model.object) == ("default", "model")
    assert tiny.openai.models.retrieve("default").id == "default"


def test_errors_are_the_clients_own(tiny: Served) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(tiny, top_p=3)
    assert (refused.value.param, refused.value.type) == ("top_p", "invalid_request_error")
    assert "from 0 to 1" in refused.value.message
    with pytest.raises(openai.NotFoundError, match="no model is called 'gpt-4'") as unknown:
        tiny.openai.chat.completions.create(model="gpt-4", messages=HELLO)  # type: ignore[call-overload]
    assert unknown.value.code == "model_not_found"
