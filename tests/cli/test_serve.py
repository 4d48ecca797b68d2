"""`malmoi serve`: what it refuses to open, what it opens, and how it ends."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from malmoi.cli import serve as command
from malmoi.cli.serve import KEYS_VARIABLE
from malmoi.core.errors import ConfigError, DataError, MediaError
from malmoi.llm.media import MediaPolicy
from malmoi.server.app import ServerSettings
from malmoi.server.catalogue.entry import Entry
from malmoi.server.catalogue.room import Room
from malmoi.server.trust.connection import ConnectionLimits
from malmoi.testing.models import tiny_llm


class Opened:
    """What the command would have served."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = ServerSettings()
        self.at: tuple[str, int] | None = None
        self.limits, self.drain_seconds = ConnectionLimits(), 0

        self.entries: dict[str, Any] = {}
        self.room = Room()

        def catalogue(entries: Mapping[str, Entry], *, room: Room) -> None:
            self.entries, self.room = dict(entries), room

        def create_app(catalogue: Any, settings: ServerSettings) -> str:
            self.settings = settings
            return "the app"

        def listen(app: Any, *, host: str, port: int, limits: ConnectionLimits, drain_seconds: int) -> None:
            self.at, self.limits, self.drain_seconds = (host, port), limits, drain_seconds

        monkeypatch.setattr("malmoi.server.catalogue.catalogue.Catalogue", catalogue)
        monkeypatch.setattr("malmoi.server.app.create_app", create_app)
        monkeypatch.setattr("malmoi.server.listen.listen", listen)

    @property
    def models(self) -> dict[str, str | None]:
        """Where each comes from."""
        return {name: entry.path for name, entry in self.entries.items()}

    def load(self, name: str) -> Any:
        """What one is when it is loaded."""
        return self.entries[name]._load(self.entries[name].path)


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


def test_what_strangers_may_do_is_said(opened: Opened) -> None:
    given = ["--max-requests=3", "--rate=60", "--max-connections=5", "--drain-seconds=7", "--port=0"]
    assert run(*given, "--cors", "https://a.example", "--cors", "http://b.example:8080").exit_code == 0
    assert (opened.settings.max_requests, opened.settings.rate) == (3, 60)
    assert opened.settings.origins == ("https://a.example", "http://b.example:8080")
    assert (opened.limits.max_connections, opened.drain_seconds) == (5, 7)
    assert opened.at == ("127.0.0.1", 0)


def test_a_name_that_others_have_for_it_is_answered_to_and_needs_a_key(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("--allow-host", "chat.example")
    assert isinstance(result.exception, ConfigError)
    assert "chat.example can be reached from other machines" in str(result.exception)
    assert opened.at is None
    monkeypatch.setenv(KEYS_VARIABLE, "one")
    for more in ([], ["--host", "0.0.0.0"]):
        assert run("--allow-host", "chat.example", *more).exit_code == 0
        assert set(opened.settings.hosts) == {"localhost", "127.0.0.1", "::1", "chat.example"}


def test_by_itself_it_limits_no_rate_and_lets_no_other_page_in(opened: Opened) -> None:
    assert run().exit_code == 0
    assert (opened.settings.rate, opened.settings.origins) == (None, ())
    assert not opened.settings.logs_prompts


@pytest.mark.parametrize(
    "wrong",
    [
        ["--max-requests=0"],
        ["--max-connections=0"],
        ["--rate=0"],
        ["--drain-seconds=-1"],
        ["--cors=example.com"],
        ["--cors=https://example.com/"],
        ["--cors=null"],
        ["--cors=https://me@example.com"],
        ["--allow-host=https://chat.example"],
        ["--allow-host=chat.example:443"],
        ["--allow-host=chat.example/v1"],
        ["--allow-host=[::1]"],
        ["--allow-host="],
        ["--allow-remote-host=https://images.example"],
        ["--allow-remote-host=images.example:443"],
        ["--max-image-pixels=0"],
    ],
    ids=str,
)
def test_a_limit_that_is_none_is_refused(opened: Opened, wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2
    assert opened.at is None


def test_every_page_is_let_in_only_with_keys(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ([], ["--host", "0.0.0.0", "--without-key"]):
        result = run("--cors", "*", *more)
        assert isinstance(result.exception, ConfigError)
        assert "--cors '*'" in str(result.exception)
    monkeypatch.setenv(KEYS_VARIABLE, "one")
    assert run("--cors", "*").exit_code == 0
    assert opened.settings.origins == ("*",)


def test_a_model_is_told_which_files_it_may_take(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malmoi.cli.loading.load_any", lambda path, settings: tiny_llm())
    assert run("--max-image-pixels", "1000", "--allow-remote-host", "images.example").exit_code == 0
    policy = opened.load("default").builder.media.policy
    assert policy.max_image_pixels == 1000
    with pytest.raises(MediaError, match="only from: images.example"):
        policy.fetch("https://localhost/cat.png")
    assert run().exit_code == 0
    assert opened.load("default").builder.media.policy == MediaPolicy()


@pytest.mark.parametrize("page", ["serve.md", "serve.ko.md"])
def test_the_guide_names_options_that_there_are(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    there = {option for parameter in command.serve.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= there


# --- a process ---


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != KEYS_VARIABLE}
    program = [sys.executable, "-m", "malmoi", "serve", "--port", "0", *getattr(request, "param", ())]
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
            except httpx.TransportError:  # it came in while the door was being closed
                continue


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
@pytest.mark.parametrize("process", [["--drain-seconds", "0"]], indirect=True)
def test_it_does_not_wait_longer_than_it_was_told_for_an_answer_that_goes_on(
    process: subprocess.Popen[str],
) -> None:
    url = read_url(process)
    body = {"messages": [{"role": "user", "content": "안녕?"}], "ignore_eos": True, "stream": True}
    body["n"] = 32
    with httpx.Client(base_url=url, timeout=120) as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if "content" in line)
            next(lines)
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = []
            with contextlib.suppress(httpx.TransportError):  # cut off
                rest += lines
        process.wait(timeout=60)
    assert not [line for line in rest if '"finish_reason":"length"' in line]
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_in_a_line(process: subprocess.Popen[str]) -> None:
    port = read_url(process).rpartition(":")[2]
    program = [sys.executable, "-m", "malmoi", "serve", "--port", port]
    second = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode != 0
    assert second.stdout == ""
    assert "address already in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_names_are_compared_without_case(opened: Opened) -> None:
    given = ("--without-key", "--allow-host", "Chat.Example", "--cors", "HTTPS://A.Example")
    assert run(*given).exit_code == 0
    assert "chat.example" in opened.settings.hosts
    assert tuple(opened.settings.origins) == ("https://a.example",)
