"""`malmoi serve --config`: what a file says is read strictly, and what it says wrongly is told by name."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.cli.test_serve import Opened, run

import malmoi
from malmoi.cli import serve as command
from malmoi.cli.engine import EngineSettings
from malmoi.cli.loading import memory_of
from malmoi.core.errors import ConfigError
from malmoi.server.catalogue.local import LocalModel
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.routed import Routed
from malmoi.server.catalogue.upstream import Upstream
from malmoi.weights.default import default_model

EXAMPLE = Path(malmoi.__file__).parents[2] / "docs" / "serve.toml"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.delenv("MALMOI_API_KEYS", raising=False)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-not-shown")
    return Opened(monkeypatch)


def with_file(directory: Path, text: str, *more: str) -> Any:
    file = directory / "serve.toml"
    file.write_text(text, encoding="utf-8")
    return run("--config", str(file), *more)


def test_the_example_is_what_it_says(opened: Opened) -> None:
    result = run("--config", str(EXAMPLE))
    assert result.exit_code == 0, result.exception
    assert opened.at == ("127.0.0.1", 8000)
    assert opened.room.limit == 16 * 2**30
    small, korean, large, auto = opened.entries.values()
    assert list(opened.entries) == ["small", "korean", "large", "auto"]
    assert isinstance(small, LocalModel)
    assert (small.path, small.is_staying, small.price) == (
        None, True, Price(currency="KRW", input=10, output=40),
    )  # fmt: skip
    assert isinstance(korean, LocalModel)
    assert (korean.path, korean.is_staying, korean._configured) == ("runs/korean-8b", False, 600.0)
    assert isinstance(large, Upstream)
    assert large.settings.key == "sk-not-shown"
    assert (large.settings.timeout, large.settings.accepts[0]) == (120.0, "top_k")
    assert isinstance(auto, Routed)
    assert auto.choose("def f(x): return [x[0] for x in (a, b)];").name == "large"
    assert "sk-not-shown" not in repr(large.settings)


@pytest.mark.parametrize("page", ["serve-models.md", "serve-models.ko.md"])
def test_what_the_guide_shows_is_read_and_the_options_that_it_names_exist(
    opened: Opened, tmp_path: Path, page: str
) -> None:
    text = (EXAMPLE.parent / page).read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        whole = block if block.startswith("[") else f"[models.a]\n{block}"
        result = with_file(tmp_path, whole)
        assert result.exit_code == 0, result.exception
    help_ = CliRunner().invoke(command.serve, ["--help"]).output
    assert {option for option in re.findall(r"--[a-z][a-z-]*", text) if option not in help_} == set()


def test_the_command_line_comes_before_the_file(opened: Opened, tmp_path: Path) -> None:
    text = '[server]\nport = 1234\nidle = "10m"\ndtype = "fp32"\ncors = ["https://a.example"]\n[models.b]\npath = "x"\n'
    assert with_file(tmp_path, text, "--port", "99", "--model", "a=dir").exit_code == 0
    assert opened.at == ("127.0.0.1", 99)
    assert opened.settings.origins == ("https://a.example",)
    assert opened.models == {"a": "dir", "b": "x"}
    assert {entry._configured for entry in opened.entries.values()} == {600.0}


def test_a_model_is_loaded_with_what_its_table_says_and_else_with_what_the_command_does(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: dict[str | None, EngineSettings] = {}
    monkeypatch.setattr(
        "malmoi.cli.loading.load_any", lambda path, settings: loaded.setdefault(path, settings)
    )
    one, other = '[models.a]\npath = "a"\ncache_bytes = "16M"\n', '[models.b]\npath = "b"\ndtype = "int4"\n'
    text = f"{one}{other}prefix_caching = false\n"
    assert with_file(tmp_path, text, "--dtype", "bf16", "--threads", "2").exit_code == 0
    for name in "ab":
        opened.load(name)
    assert (loaded["a"].dtype, loaded["a"].cache_bytes, loaded["a"].threads) == ("bf16", 2**24, 2)
    assert (loaded["b"].dtype, loaded["b"].cache_bytes, loaded["b"].prefix_caching) == ("int4", None, False)
    assert loaded["b"].engine_options() == {"prefix_caching": False}


def test_paths_are_relative_to_the_file(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "keys").write_text("one\n")
    (tmp_path / "far").write_text("sk-1\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = """
        [server]
        api_key_file = "keys"
        [models.here]
        path = "runs"
        [models.hub]
        path = "org/model"
        [models.far]
        upstream = "https://far.example/v1"
        model = "m"
        key_file = "far"
    """
    assert with_file(tmp_path, text).exit_code == 0
    assert opened.settings.api_keys == ("one",)
    assert (opened.entries["here"].path, opened.entries["hub"].path) == (str(tmp_path / "runs"), "org/model")
    assert opened.entries["far"].settings.key == "sk-1"


FAR = '[models.far]\nupstream = "https://far.example/v1"\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[serve]\n", ["unknown key 'serve'", "'server'"]),
        ("[server]\nprot = 1\n", ["server: unknown key 'prot'", "'port'"]),
        ("[server]\nport = '1'\n", ["server.port", "int"]),
        ("[server]\nport = true\n", ["server.port", "int"]),
        ("[server]\nport = 99999999\n", ["server.port"]),
        ("[server]\nwithout_key = 1\n", ["server.without_key", "bool"]),
        ("[server]\ncors = 'https://a.example'\n", ["server.cors", "list"]),
        ("[server]\nmemory = 'much'\n", ["server.memory", "'much'", "512M"]),
        ("[server]\nidle = '10 weeks'\n", ["server.idle", "10m"]),
        ("[server]\ndtype = 'fp8'\n", ["server.dtype"]),
        ("[models]\nsmall = 'runs'\n", ["models.small", "[models.NAME]"]),
        ("[models.a]\npth = 'x'\n", ["models.a: unknown key 'pth'", "'path'"]),
        ("[models.a]\npath = 3\n", ["models.a: path", "3"]),
        ("[models.a]\ndtype = 'fp8'\n", ["models.a: dtype", "'fp8'"]),
        ("[models.a]\nkeep = 'soon'\n", ["models.a.keep", "'soon'"]),
        ("[models.a]\ncache_bytes = 'big'\n", ["models.a.cache_bytes", "'big'"]),
        ("[models.a]\nprice = {currency = 'EUR', input = 1, output = 1}\n", ["price", "'EUR'"]),
        ("[models.a]\nprice = {currency = 'KRW', input = 1}\n", ["output"]),
        ("[models.a]\nthreads = 1\n[models.b]\nthreads = 2\n", ["threads=1", "'b'", "[server]"]),
        (FAR + "key = 'sk-1'\n", ["models.far", "key_env"]),
        (FAR + "api_key = 'sk-1'\n", ["models.far", "key_env"]),
        (FAR + "key_env = 'NOT_SET_ANYWHERE'\n", ["models.far", "NOT_SET_ANYWHERE"]),
        (FAR + "key_file = 'nowhere'\n", ["nowhere"]),
        (FAR + "retrys = 1\n", ["'retrys'", "'retries'"]),
        (FAR + "path = 'runs'\n", ["path", "upstream"]),
        ('[models.far]\nupstream = "ftp://x"\nmodel = "m"\n', ["models.far", "ftp://x"]),
        ('[models.far]\nupstream = "https://me:secret@x/v1"\nmodel = "m"\n', ["models.far", "password"]),
        ('[models.far]\nupstream = "https://x/v1"\n', ["'model'"]),
        ("[models.auto]\nweak = 'a'\nstrong = 'b'\nrouter = 'r'\n[models.a]\n", ["models.auto", "'b'"]),
        ("[models.auto]\nweak = 'a'\nstrong = 'b'\n", ["models.auto", "router"]),
        ("[models.auto]\nweak = 'a'\nstong = 'b'\n", ["models.auto", "'stong'", "'strong'"]),
        ("= 1", ["TOML", "line 1"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_by_its_name(
    opened: Opened, tmp_path: Path, text: str, words: list[str]
) -> None:
    result = with_file(tmp_path, text)
    assert isinstance(result.exception, ConfigError)
    assert [word for word in words if word not in str(result.exception)] == [], str(result.exception)
    assert "sk-1" not in str(result.exception)
    assert "secret" not in str(result.exception)
    assert opened.at is None


def test_a_file_that_is_not_there_is_said(opened: Opened, tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "nothing.toml"))
    assert isinstance(result.exception, ConfigError)
    assert "nothing.toml" in str(result.exception)


def test_a_name_on_the_line_and_in_the_file_is_refused(opened: Opened, tmp_path: Path) -> None:
    result = with_file(tmp_path, "[models.a]\npath = 'x'\n", "--model", "a=y")
    assert isinstance(result.exception, ConfigError)
    assert "'a'" in str(result.exception)


def test_always_is_longer_than_any_time(opened: Opened, tmp_path: Path) -> None:
    assert with_file(tmp_path, "[models.a]\nkeep = 'always'\n[models.b]\nkeep = 0\n").exit_code == 0
    assert [entry._configured for entry in opened.entries.values()] == [math.inf, 0]


@pytest.mark.parametrize(
    "settings",
    [{}, {"dtype": "int8"}, {"dtype": "fp32", "cache_bytes": 2**24}, {"speculation": str(default_model())}],
    ids=range(4),
)
def test_what_a_model_would_take_is_what_it_takes(settings: dict[str, Any]) -> None:
    from malmoi.cli.loading import load_llm

    asked = EngineSettings(threads=1, **settings)
    assert memory_of(None, asked) == load_llm(None, asked).engine.num_bytes


@pytest.mark.parametrize("value", ["sk-1\nsk-2", "sk 1", "sk-열쇠", "sk-\x7f1", " \n"])
def test_a_variable_that_holds_no_one_key_is_refused_and_not_quoted(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OUR_KEY", value)
    result = with_file(tmp_path, FAR + "key_env = 'OUR_KEY'\n")
    assert isinstance(result.exception, ConfigError)
    assert "OUR_KEY does not hold one key" in str(result.exception)
    assert "sk" not in str(result.exception).replace("OUR_KEY", "")


def test_a_line_that_ends_is_no_part_of_a_key(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-1\n")
    assert with_file(tmp_path, FAR + "key_env = 'OUR_KEY'\n").exit_code == 0
    assert opened.entries["far"].settings.key == "sk-1"
