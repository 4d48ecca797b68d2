"""LiteLLM's proxy in front of the server: what OpenAI's client asks of it is what it would be told by us."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until

from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

pytestmark = pytest.mark.slow

SAID = "한글은 말모이. 👨‍👩‍👧‍👦 끝"
END_OF_TURN = ByteTokenizer().special_tokens["<|im_end|>"]
KEY = "sk-of-the-proxy-0123456789"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}


@pytest.fixture(scope="module")
def scripted(start_server: Serve) -> Served:
    """A server, with a key, whose model answers `HELLO` with `SAID`."""
    script = [*ByteTokenizer().encode(SAID), END_OF_TURN]
    num_prompt = len(tiny_llm().builder.prompt_ids(HELLO))
    return start_server(tiny_llm(ScriptedModel(script, num_prompt=num_prompt)), api_keys=("ours",))


@pytest.fixture(scope="module")
def busy(start_server: Serve) -> Served:
    """A server that has time for one request."""
    return start_server(tiny_llm(tiny_llama(max_positions=8192)), max_requests=1)


@pytest.fixture(scope="module")
def proxy(
    scripted: Served,
    busy: Served,
    programs: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[openai.OpenAI]:
    """OpenAI's client of a proxy before both servers."""
    behind = {
        "malmoi": {"model": "openai/default", "api_base": f"{scripted.url}/v1", "api_key": "ours"},
        "keyless": {"model": "openai/default", "api_base": f"{scripted.url}/v1", "api_key": "wrong"},
        "missing": {"model": "openai/nobody", "api_base": f"{scripted.url}/v1", "api_key": "ours"},
        "busy": {"model": "openai/default", "api_base": f"{busy.url}/v1", "api_key": "none"},
    }
    folder = tmp_path_factory.mktemp("litellm")
    config = {
        "model_list": [{"model_name": name, "litellm_params": one} for name, one in behind.items()],
        "litellm_settings": {"num_retries": 0},
        "router_settings": {"disable_cooldowns": True},  # else it asks us no more after an error
        "general_settings": {"master_key": KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    program = [programs("litellm") / "litellm", "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(program, stdout=log, stderr=log, cwd=folder, env=os.environ | OFFLINE)
    try:
        wait_until(lambda: is_alive(running, url, folder / "log"), seconds=240)
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            yield client
    finally:
        running.terminate()
        running.wait(60)


def is_alive(running: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert running.poll() is None, log.read_text("utf-8", errors="replace")
    try:
        return httpx.get(f"{url}/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "malmoi", "messages": HELLO, "temperature": 0, **options})


def test_an_answer_and_what_it_cost_come_through(proxy: openai.OpenAI, scripted: Served) -> None:
    answer = ask(proxy)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (SAID, "stop")
    num_prompt = len(scripted.llm.builder.prompt_ids(HELLO))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (num_prompt, len(SAID.encode()) + 1)


def test_a_stream_comes_through_in_whole_letters_with_its_usage(proxy: openai.OpenAI) -> None:
    with ask(proxy, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == SAID
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert len(list(filter(None, pieces))) > len("한글은 말모이.")
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [len(SAID.encode()) + 1]


def test_what_is_asked_for_comes_through(proxy: openai.OpenAI) -> None:
    answer = ask(proxy, n=2, stop=["말모"], logprobs=True, top_logprobs=2, seed=1)
    assert [choice.message.content for choice in answer.choices] == ["한글은 "] * 2
    content = answer.choices[0].logprobs.content
    assert bytes(byte for token in content for byte in token.bytes).startswith("한글은 ".encode())
    assert all(len(token.top_logprobs) == 2 for token in content)


def test_a_text_goes_on_too(proxy: openai.OpenAI, scripted: Served) -> None:
    asked: dict[str, Any] = {"prompt": "말", "max_tokens": 3, "temperature": 0}
    ours = scripted.http.post("/v1/completions", json=asked, headers={"Authorization": "Bearer ours"}).json()
    assert proxy.completions.create(model="malmoi", **asked).choices[0].text == ours["choices"][0]["text"]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"top_p": 3}, openai.BadRequestError, "top_p=3.0 is out of range"),
        ({"extra_body": {"no_such_thing": 1}}, openai.BadRequestError, "no_such_thing"),
        ({"model": "missing"}, openai.NotFoundError, "no model is called 'nobody'"),
        ({"model": "keyless"}, openai.AuthenticationError, "key is missing or wrong"),
    ],
    ids=str,
)
def test_an_error_keeps_its_status_and_its_words(
    proxy: openai.OpenAI, options: dict[str, Any], kind: type[openai.APIStatusError], words: str, is_stream: bool
) -> None:
    with pytest.raises(kind, match=words):
        ask(proxy, stream=is_stream, **options)


def test_who_has_no_time_is_a_rate_limit(proxy: openai.OpenAI, busy: Served) -> None:
    connection = busy.request("/v1/chat/completions", messages=HELLO, ignore_eos=True, stream=True)
    wait_until(lambda: busy.num_blocks_in_use)
    with pytest.raises(openai.RateLimitError, match="Try again later"):
        ask(proxy, model="busy")
    connection.close()
    busy.until_idle()


def test_who_leaves_the_proxy_has_left_us(proxy: openai.OpenAI, busy: Served) -> None:
    with ask(proxy, model="busy", stream=True, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))
    busy.until_idle()
    assert busy.num_blocks_in_use == 0
