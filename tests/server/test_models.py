"""Several models behind one port: each by its name, loaded when it is asked for, and none in the way of the others."""

import logging
import threading
from collections.abc import Callable

import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until

from malmoi.core.errors import CheckpointError
from malmoi.llm import LLM
from malmoi.testing.models import ScriptedModel, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

CHAT = "/v1/chat/completions"


def says(text: str) -> LLM:
    tokenizer = ByteTokenizer()
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    end = tokenizer.special_tokens["<|im_end|>"]
    return tiny_llm(ScriptedModel([*tokenizer.encode(text), end], num_prompt=num_prompt))


def answer(served: Served, **body: object) -> str:
    response = served.post(CHAT, messages=HELLO, temperature=0, **body)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_each_answers_to_its_name_and_the_first_to_none(serve: Serve) -> None:
    served = serve({"one": says("하나"), "org/two": says("둘")})
    assert [answer(served, **body) for body in ({}, {"model": "one"}, {"model": "org/two"})] == [
        "하나",
        "하나",
        "둘",
    ]
    assert [model["id"] for model in served.http.get("/v1/models").json()["data"]] == ["one", "org/two"]
    assert served.http.get("/v1/models/org/two").json()["id"] == "org/two"
    assert served.post(CHAT, messages=HELLO, model="one").json()["model"] == "one"


def test_a_name_that_is_not_there_is_told_which_ones_are(tiny: Served) -> None:
    for response in (tiny.post(CHAT, messages=HELLO, model="gpt"), tiny.http.get("/v1/models/gpt")):
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert "Use one of: default." in error["message"]


def loader(loaded: list[str], **how: Callable[[], LLM]) -> Callable[[str | None], LLM]:
    def load(path: str | None) -> LLM:
        loaded.append(str(path))
        return how[str(path)]()

    return load


def test_a_model_is_loaded_once_when_it_is_first_asked_for(serve: Serve) -> None:
    loaded: list[str] = []
    one, other = says("하나"), says("둘")
    served = serve({"one": one, "other": other}, load=loader(loaded, one=lambda: one, other=lambda: other))
    wait_until(lambda: served.http.get("/ready").status_code == 200)
    assert loaded == ["one"]
    assert served.http.get("/v1/models/other").json()["malmoi"] == {
        "kind": None, "loaded": False, "bytes": 0, "price": None,
    }  # fmt: skip
    threads = [threading.Thread(target=answer, args=(served,), kwargs={"model": "other"}) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["one", "other"]
    told = served.http.get("/v1/models/other").json()["malmoi"]
    assert (told["vocab_size"], told["kind"], told["loaded"]) == (259, "writes", True)
    assert told["bytes"] == other.engine.num_bytes


def test_while_one_is_loaded_the_server_is_not_ready_but_well_and_another_answers(serve: Serve) -> None:
    may_go_on = threading.Event()
    one, other = says("하나"), says("둘")

    def slowly() -> LLM:
        may_go_on.wait(30)
        return one

    served = serve({"one": one, "other": other}, load=loader([], one=slowly, other=lambda: other))
    try:
        ready = served.http.get("/ready")
        assert ready.status_code == 503
        assert int(ready.headers["retry-after"]) >= 1
        assert served.http.get("/health").json() == {"status": "ok"}
        assert answer(served, model="other") == "둘"
    finally:
        may_go_on.set()
    assert answer(served, model="one") == "하나"
    assert served.http.get("/ready").json() == {"status": "ready"}


@pytest.mark.parametrize(
    "error", [CheckpointError("/private/dir has no config.json."), ValueError("/private")]
)
def test_one_that_cannot_be_loaded_is_a_clear_error_and_the_others_go_on(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    good, num_tries = says("둘"), 0

    def fail() -> LLM:
        nonlocal num_tries
        num_tries += 1
        if num_tries == 3:
            return good
        raise error

    served = serve({"bad": good, "good": good}, load=loader([], bad=fail, good=lambda: good))
    for response in (served.post(CHAT, messages=HELLO, model="bad"), served.http.get("/ready")):
        assert response.status_code == 503
        told = response.json()["error"]
        assert told["message"].startswith("the model 'bad' cannot be loaded; the server's log says why")
        assert (told["type"], told["code"]) == ("server_error", "model_not_loaded")
        assert "private" not in response.text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "private" in logged[0].getMessage()
    assert answer(served, model="good") == "둘"
    assert answer(served, model="bad") == "둘"  # mended in the meantime
    assert served.http.get("/ready").status_code == 200
