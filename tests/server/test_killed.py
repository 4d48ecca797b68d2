"""kill -9 of an upstream in the middle of an answer: two processes of `malmoi serve`, one in front of the other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.conftest import HELLO, wait_until

pytestmark = pytest.mark.slow

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 1500, "ignore_eos": True},
    "/v1/messages": {"messages": HELLO, "max_tokens": 1500},
}
"""Two, each with two failures: the fifth opens the breaker."""


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and its URL."""
    program = [sys.executable, "-m", "malmoi", "serve", *options]
    environment = {name: value for name, value in os.environ.items() if name != "MALMOI_API_KEYS"}
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, process.stderr and process.stderr.read()
            with httpx.Client(base_url=url, timeout=60) as client:
                wait_until(lambda: client.get("/ready").status_code == 200, seconds=120)
            yield process, url
        finally:
            process.kill()


def answer(client: httpx.Client, path: str) -> httpx.Response:
    """To a request that ends soon."""
    return client.post(path, json={**ASKED[path], "max_tokens": 4})


def test_the_stream_ends_with_an_error_the_next_is_told_and_after_a_restart_it_works_again(
    tmp_path: Path,
) -> None:
    with ExitStack() as servers:
        far, far_url = servers.enter_context(serving("--port=0"))
        config = tmp_path / "serve.toml"
        config.write_text(f'[models.far]\nupstream = "{far_url}/v1"\nmodel = "default"\nretries = 0\n', "utf-8")
        _, url = servers.enter_context(serving("--port=0", f"--config={config}"))
        client = servers.enter_context(httpx.Client(base_url=url, timeout=60))
        for path, body in ASKED.items():
            with client.stream("POST", path, json={**body, "stream": True}) as response:
                lines = response.iter_lines()
                next(line for line in lines if "delta" in line)
                far.kill()
                far.wait()
                rest = [line.removeprefix("data: ") for line in lines if "{" in line or "[DONE]" in line]
            errors = [event for line in rest if "error" in (event := loads(line))]
            assert len(errors) == 1, rest[-3:]
            assert "cut off before its end" in str(errors)
            refused = answer(client, path)
            assert refused.status_code == 502, refused.text
            assert "cannot be reached" in refused.text
            far, _ = servers.enter_context(serving(f"--port={far_url.rpartition(':')[2]}"))
            assert answer(client, path).status_code == 200
        far.kill()
        far.wait()
        statuses = [answer(client, "/v1/chat/completions").status_code for _ in range(6)]
        assert (statuses[0], statuses[-1]) == (502, 503), statuses  # it is left alone, and nobody waits for it
        left_alone = answer(client, "/v1/chat/completions")
        assert 0 < int(left_alone.headers["Retry-After"]) <= 30
        assert client.get("/health").status_code == 200


def loads(line: str) -> Any:
    return {} if line == "[DONE]" else json.loads(line)
