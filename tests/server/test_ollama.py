"""Ollama's own client reads what /api writes: answers, lines, vectors, models and errors."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.test_encoders import TEXTS, encoder

import malmoi
from malmoi.engine import SamplingParams
from malmoi.models import count_parameters
from malmoi.server.catalogue.upstream import Upstream, UpstreamSettings
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

SAID = "한글은 말모이."
END_OF_TURN = ByteTokenizer().special_tokens["<|im_end|>"]
GREEDY = {"temperature": 0, "num_predict": 6}


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    """A model of random words, and one that reads."""
    models: dict[str, Any] = {
        "tiny": tiny_llm(tiny_llama(max_positions=512)),
        "encoder": encoder(),
    }
    return start_server(models)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(served.url) as client:
        yield client


@pytest.fixture(scope="module")
def scripted(start_server: Serve) -> Iterator[ollama.Client]:
    """The client of a server whose model answers `HELLO` with `SAID`."""
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    script = [*ByteTokenizer().encode(SAID), END_OF_TURN]
    served = start_server({"scripted": tiny_llm(ScriptedModel(script, num_prompt=num_prompt))})
    with ollama.Client(served.url) as client:
        yield client


def test_a_chat_is_what_the_model_says(served: Served, scripted: ollama.Client) -> None:
    answer = scripted.chat("scripted", HELLO)
    assert (answer.message.role, answer.message.content) == ("assistant", SAID)
    assert (answer.model, answer.done, answer.done_reason) == ("scripted", True, "stop")
    assert answer.prompt_eval_count == len(served.llm.builder.prompt_ids(HELLO))
    assert answer.eval_count == len(SAID.encode()) + 1
    spent = answer.prompt_eval_duration + answer.eval_duration  # type: ignore[operator]
    assert 0 < spent <= answer.total_duration  # type: ignore[operator]


def test_lines_make_the_same_answer(scripted: ollama.Client) -> None:
    *lines, last = scripted.chat("scripted", HELLO, stream=True)
    assert "".join(line.message.content or "" for line in lines) == SAID
    assert not any(line.done for line in lines)
    assert (last.message.content, last.done, last.done_reason) == ("", True, "stop")
    assert last.eval_count == len(SAID.encode()) + 1


def test_a_prompt_is_what_the_user_says(served: Served, client: ollama.Client) -> None:
    llm = served.models["tiny"]
    wanted = llm.chat(
        [{"role": "system", "content": "짧게"}, *HELLO], SamplingParams(temperature=0, max_tokens=6)
    )
    answer = client.generate("tiny", "안녕?", system="짧게", options=GREEDY)
    assert (answer.response, answer.done_reason) == (wanted.text, wanted.finish_reason)
    lines = client.generate("tiny", "안녕?", system="짧게", options=GREEDY, stream=True)
    assert "".join(line.response for line in lines) == wanted.text


def test_a_raw_prompt_is_gone_on_from(served: Served, client: ollama.Client) -> None:
    wanted = served.models["tiny"].generate("말", SamplingParams(temperature=0, max_tokens=6)).text
    assert client.generate("tiny", "말", raw=True, options=GREEDY).response == wanted


@pytest.mark.parametrize(
    ("option", "param"),
    [
        ({"temperature": 0.5, "seed": 3}, {"temperature": 0.5, "seed": 3}),
        ({"top_k": 2, "seed": 3}, {"top_k": 2, "seed": 3}),
        ({"top_p": 0.3, "seed": 3}, {"top_p": 0.3, "seed": 3}),
        ({"typical_p": 0.3, "seed": 3}, {"typical_p": 0.3, "seed": 3}),
        ({"repeat_penalty": 20.0, "seed": 3}, {"repetition_penalty": 20.0, "seed": 3}),
        ({"frequency_penalty": 2.0, "seed": 3}, {"frequency_penalty": 2.0, "seed": 3}),
        ({"presence_penalty": 2.0, "seed": 3}, {"presence_penalty": 2.0, "seed": 3}),
        ({"temperature": 0.0, "stop": ["e", "_"]}, {"temperature": 0.0, "stop": ("e", "_")}),
    ],
    ids=str,
)
def test_an_option_does_what_its_parameter_does(
    served: Served, client: ollama.Client, option: dict[str, Any], param: dict[str, Any]
) -> None:
    wanted = served.models["tiny"].chat(HELLO, SamplingParams(max_tokens=12, **param)).text
    assert client.chat("tiny", HELLO, options={"num_predict": 12, **option}).message.content == wanted


def test_a_length_of_minus_one_is_all_that_there_is_room_for(scripted: ollama.Client) -> None:
    answer = scripted.chat("scripted", HELLO, options={"num_predict": -1})
    assert answer.message.content == SAID


def test_an_answer_has_the_form_that_is_asked_for(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"수": {"const": 1}},
        "required": ["수"],
        "additionalProperties": False,
    }
    answer = client.chat("tiny", HELLO, format=schema).message.content
    assert answer is not None
    assert answer.replace(" ", "") == '{"수":1}'


def test_likelihoods_are_those_of_the_tokens(served: Served, client: ollama.Client) -> None:
    wanted = (
        served.models["tiny"].chat(HELLO, SamplingParams(temperature=0, max_tokens=6, logprobs=2)).logprobs
    )
    asked: Any = {"messages": HELLO, "options": GREEDY, "logprobs": True, "top_logprobs": 2}
    whole = client.chat("tiny", **asked).logprobs or ()
    streamed = [one for line in client.chat("tiny", **asked, stream=True) for one in line.logprobs or ()]
    for found in (whole, streamed):
        assert [one.logprob for one in found] == pytest.approx([one.logprob for one in wanted], abs=1e-5)
        assert [len(one.top_logprobs or ()) for one in found] == [2] * 6
    assert client.generate("tiny", "말", options=GREEDY, logprobs=True).logprobs[0].token  # type: ignore[index]
    told = served.post("/api/chat", model="tiny", **asked, stream=False).json()["logprobs"]
    special = set(served.models["tiny"].tokenizer.special_tokens.values())
    for said, token in zip(told, wanted, strict=True):
        assert [one["bytes"] for one in said["top_logprobs"]] == [
            [] if one.token in special else list(one.bytes) for one in token.top
        ]


def test_to_ask_nothing_loads_the_model(client: ollama.Client) -> None:
    for answer in (client.chat("tiny", []), client.generate("tiny", "")):
        assert (answer.done, answer.done_reason) == (True, "load")


def test_a_model_stays_as_long_as_it_is_told_to(serve: Serve) -> None:
    loads: list[str | None] = []

    def load(path: str | None) -> Any:
        loads.append(path)
        return tiny_llm()

    served = serve({"one": tiny_llm(), "two": tiny_llm()}, load=load)
    wait_until(lambda: served.http.get("/ready").status_code == 200)
    there = lambda: [one["name"] for one in served.http.get("/api/ps").json()["models"]]  # noqa: E731
    with ollama.Client(served.url) as client:
        assert client.generate("two", "", keep_alive="-1s").done_reason == "load"
        assert there() == ["one", "two"]
        client.chat("two", HELLO, keep_alive=0, options=GREEDY)
        wait_until(lambda: there() == ["one"])
        assert client.generate("one", "", keep_alive=0).done_reason == "unload"
        wait_until(lambda: there() == [])
        client.chat("one", HELLO, options=GREEDY)
        assert there() == ["one"]
    assert loads == ["one", "two", "one"]


def test_vectors_are_the_encoders(served: Served, client: ollama.Client) -> None:
    wanted = served.models["encoder"].embed(TEXTS)
    found = client.embed("encoder", TEXTS)
    assert [list(vector) for vector in found.embeddings] == [
        pytest.approx(vector, rel=1e-4, abs=1e-6) for vector in wanted.tolist()
    ]
    assert len(client.embed("encoder", TEXTS[0], dimensions=5).embeddings[0]) == 5
    older = client.embeddings("encoder", TEXTS[0])
    assert list(older.embedding) == pytest.approx(list(found.embeddings[0]), rel=1e-6)
    assert list(client.embeddings("encoder", "").embedding) == []


def test_the_older_vectors_are_those_of_another_machine_too(served: Served, serve: Serve) -> None:
    entry = Upstream("far", UpstreamSettings(url=f"{served.url}/v1/", model="encoder"))
    near = serve({}, entries={"far": entry})
    asked = {"model": "far", "prompt": TEXTS[0]}
    wanted = served.post("/api/embeddings", **{**asked, "model": "encoder"}).json()["embedding"]
    assert near.post("/api/embeddings", **asked).json()["embedding"] == pytest.approx(wanted, rel=1e-6)
    assert near.post("/api/embeddings", model="far").json() == {"embedding": []}


def test_an_empty_text_of_the_go_client_says_nothing(served: Served, client: ollama.Client) -> None:
    wanted = client.generate("tiny", "말", options=GREEDY).response
    empty = {"suffix": "", "system": "", "template": "", "format": ""}
    found = served.post("/api/generate", model="tiny", prompt="말", options=GREEDY, stream=False, **empty)
    assert found.json()["response"] == wanted
    asked = {"name": "tiny", "model": "", "system": "", "template": "", "options": None}
    shown = served.post("/api/show", **asked)
    assert shown.json() == served.post("/api/show", model="tiny").json()
    assert served.post("/api/show", name="tiny", model="encoder").status_code == 400
    assert served.post("/api/show").status_code == 400


def test_to_be_shown_loads_no_model(serve: Serve) -> None:
    loads: list[str | None] = []

    def load(path: str | None) -> Any:
        loads.append(path)
        return tiny_llm()

    served = serve({"one": tiny_llm(), "two": tiny_llm()}, load=load)
    wait_until(lambda: served.http.get("/ready").status_code == 200)
    with ollama.Client(served.url) as client:
        assert client.show("two").capabilities == []
        assert "completion" in (client.show("one").capabilities or [])
        client.generate("two", "", keep_alive="-1s")
        client.generate("two", "", keep_alive=0)
        wait_until(lambda: len(client.ps().models) == 1)
        assert client.show("two").capabilities == ["completion"]
    assert loads == ["one", "two"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat", {"messages": HELLO, "options": {"temperature": -1}, "keep_alive": 0}),
        ("generate", {"prompt": "a", "think": True, "keep_alive": 0}),
        ("embed", {"input": "a", "keep_alive": 0}),
        ("embeddings", {"prompt": "a", "keep_alive": 0}),
    ],
    ids=["chat", "generate", "embed", "embeddings"],
)
def test_a_refused_request_changes_nothing_of_how_long_a_model_stays(
    served: Served, client: ollama.Client, path: str, body: dict[str, Any]
) -> None:
    client.generate("tiny", "", keep_alive="1h")
    assert served.post(f"/api/{path}", model="tiny", **body).status_code == 400
    [running] = [one for one in served.http.get("/api/ps").json()["models"] if one["name"] == "tiny"]
    assert running["expires_at"] is not None


def test_a_wrong_time_is_refused_before_the_work(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.models["encoder"], "embedding_request", lambda *_: 1 / 0)
    for path in ("embed", "embeddings"):
        body = {"input": "a"} if path == "embed" else {"prompt": "a"}
        response = served.post(f"/api/{path}", model="encoder", keep_alive="soon", **body)
        assert (response.status_code, "keep_alive" in response.text) == (400, True)


def test_models_are_listed_and_described(served: Served, client: ollama.Client) -> None:
    client.chat("tiny", [])
    client.embeddings("encoder", "")
    assert [model.model for model in client.list().models] == ["tiny", "encoder"]
    assert "tiny" in [model.model for model in client.ps().models]
    model = served.models["tiny"].model
    [running] = [one for one in client.ps().models if one.model == "tiny"]
    assert (running.context_length, running.size_vram) == (512, 0)
    shown = client.show("tiny")
    assert shown.modelinfo == {
        "general.architecture": "llama",
        "general.parameter_count": count_parameters(model),
        "llama.context_length": 512,
    }
    assert (shown.capabilities, client.show("encoder").capabilities) == (
        ["completion", "tools"],
        ["embedding"],
    )
    assert served.http.get("/api/version").json() == {"version": malmoi.__version__}


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("chat", {"options": {"num_ctx": 4096}}, 400, "num_ctx"),
        ("chat", {"options": {"no_such_thing": 1}}, 400, "no_such_thing"),
        ("chat", {"options": {"temperature": -1}}, 400, "temperature"),
        ("chat", {"keep_alive": "soon"}, 400, "keep_alive"),
        ("chat", {"tools": [{"type": "function"}]}, 400, "tools"),
        ("chat", {"messages": HELLO, "think": True}, 400, "think"),
        ("chat", {"model": "nobody"}, 404, "nobody"),
        ("chat", {"messages": [{"role": "user", "content": "?", "images": ["AAAA"]}]}, 400, "text alone"),
        ("generate", {"prompt": "a", "suffix": "b"}, 400, "gap"),
        ("generate", {"prompt": "a", "raw": True, "suffix": "b"}, 400, "suffix"),
        ("generate", {"prompt": "a", "raw": True, "think": True}, 400, "think"),
        ("generate", {"prompt": "a", "raw": True, "system": "b"}, 400, "raw"),
        ("generate", {"prompt": "a", "context": [1]}, 400, "context"),
        ("embed", {"input": "a"}, 400, "writes text"),
        ("embeddings", {"prompt": "a"}, 400, "writes text"),
        ("embed", {"input": "a", "truncate": True}, 400, "truncate"),
        ("pull", {}, 400, "started with"),
        ("chat", {"model": 1}, 400, "model"),
        ("chat", {"top_logprobs": 2}, 400, "top_logprobs"),
    ],
    ids=str,
)
def test_what_is_not_done_is_an_error_that_names_it(
    served: Served, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    response = served.post(f"/api/{path}", **{"model": "tiny", **body})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert word in response.json()["error"]


def test_the_client_raises_what_the_server_says(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="nobody") as caught:
        client.chat("nobody", HELLO)
    assert caught.value.status_code == 404
