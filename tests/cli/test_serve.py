"""`malmoi serve`: what it refuses to open, what it opens, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from malmoi.cli import serve as command
from malmoi.cli.serve import KEYS_VARIABLE
from malmoi.core.errors import ConfigError, DataError
from malmoi.server.app import ServerSettings


class Opened:
    """What the command would have served."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: dict[str, str | None] = {}
        self.settings = ServerSettings()
        self.at: tuple[str, int] | None = None

        def catalogue(paths: Mapping[str, str | None], *, load: Any) -> None:
            self.models = dict(paths)

        def create_app(catalogue: Any, settings: ServerSettings) -> str:
            self.settings = settings
            return "the app"

        def listen(app: Any, *, host: str, port: int) -> None:
            self.at = host, port

        monkeypatch.setattr("malmoi.server.catalogue.Catalogue", catalogue)
        monkeypatch.setattr("malmoi.server.app.create_app", create_app)
        monkeypatch.setattr("malmoi.server.listen.listen", listen)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    return Opened(monkeypatch)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command.serve, arguments)


def test_by_itself_it_serves_the_shipped_model_to_this_machine(opened: Opened) -> None:
    assert run().exit_code == 0
    assert opened.models == {"default": None}
    assert opened.at == ("127.0.0.1", 8000)
    assert opened.settings.api_keys == ()
    assert set(opened.settings.hosts) == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com"])
def test_other_machines_are_let_in_with_keys_or_by_saying_so(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str
) -> None:
    result = run("--host", host)
    assert isinstance(result.exception, ConfigError)
    assert "--api-key-file" in str(result.exception)
    assert opened.at is None
    assert run("--host", host, "--without-key").exit_code == 0
    assert opened.at == (host, 8000)
    assert opened.settings.hosts == ()
    (tmp_path / "keys").write_text("one\n둘\n\n", encoding="utf-8")
    assert run("--host", host, "--api-key-file", str(tmp_path / "keys")).exit_code == 0
    assert opened.settings.api_keys == ("one", "둘")
    monkeypatch.setenv(KEYS_VARIABLE, "three  four")
    assert run("--host", host).exit_code == 0
    assert opened.settings.api_keys == ("three", "four")
    assert run("--api-key-file", str(tmp_path / "keys")).exit_code == 0
    assert set(opened.settings.api_keys) == {"one", "둘", "three", "four"}


def test_a_file_without_keys_does_not_leave_the_door_open(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    for name in ("empty", "missing"):
        result = run("--host", "0.0.0.0", "--without-key", "--api-key-file", str(tmp_path / name))
        assert isinstance(result.exception, DataError)
    assert opened.at is None


def test_models_have_the_names_that_are_given_or_those_of_their_directories(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    models = ["runs/small", "org/big", "mine=runs/other", "lr=0.1", "."]
    assert run(*(part for model in models for part in ("--model", model))).exit_code == 0
    assert opened.models == {
        "small": "runs/small",
        "big": "org/big",
        "mine": "runs/other",
        "lr=0.1": "lr=0.1",
        tmp_path.name: ".",
    }


@pytest.mark.parametrize(
    ("models", "reason"), [(["a/x", "b/x"], "'x'"), (["=dir"], "no name"), (["x="], "no name")]
)
def test_two_of_one_name_and_one_of_none_are_refused(opened: Opened, models: list[str], reason: str) -> None:
    result = run(*(part for model in models for part in ("--model", model)))
    assert isinstance(result.exception, ConfigError)
    assert reason in str(result.exception)


def test_how_many_requests_at_once_is_said(opened: Opened) -> None:
    assert run("--max-requests", "3", "--port", "0").exit_code == 0
    assert (opened.settings.max_requests, opened.at) == (3, ("127.0.0.1", 0))
    assert run("--max-requests", "0").exit_code == 2


# --- a process ---


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != KEYS_VARIABLE}
    program = [sys.executable, "-m", "malmoi", "serve", "--port", "0"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as served:
        yield served
        served.kill()


def read_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), process.stderr and process.stderr.read()
    return url


def wait_until_refused(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        while True:
            try:
                client.get("/health")
            except httpx.ConnectError:
                return


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_one_url_and_ends_with_the_answers_that_are_on_their_way(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    url = read_url(process)
    body = {"messages": [{"role": "user", "content": "안녕?"}], "ignore_eos": True, "max_tokens": 150}
    with (
        httpx.Client(base_url=url, timeout=120) as client,
        client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response,
    ):
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        next(line for line in lines if json.loads(line)["choices"][0]["delta"].get("content"))
        process.send_signal(number)
        wait_until_refused(url)
        *rest, end = lines
    assert end == "[DONE]"
    assert json.loads(rest[-1])["choices"][0]["finish_reason"] == "length"
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err
    assert process.returncode in (-number, 0, 130)


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_in_a_line(process: subprocess.Popen[str]) -> None:
    port = read_url(process).rpartition(":")[2]
    program = [sys.executable, "-m", "malmoi", "serve", "--port", port]
    second = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode != 0
    assert second.stdout == ""
    assert "address already in use" in second.stderr
    assert "Traceback" not in second.stderr
