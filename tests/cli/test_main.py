"""The frame of the command line: verbs, exit codes, and one clear line for each mistake."""

import errno
import os
import resource
import subprocess
import sys
import types
from collections.abc import Callable

import click
import pytest

import malmoi
from malmoi.cli import main as cli
from malmoi.core.errors import ConfigError

MALMOI = [sys.executable, "-m", "malmoi"]


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*MALMOI, *args], capture_output=True, env=os.environ | (env or {}), timeout=120)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[str]]:
    """A way to run `malmoi act`, where `act` does what the test says, inside this process."""

    def install(act: Callable[[], None]) -> list[str]:
        module = types.ModuleType("malmoi.cli.act")
        module.act = click.command("act")(act)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "malmoi.cli.act", module)
        monkeypatch.setitem(cli.VERBS, "act", "Act.")
        return ["act"]

    return install


def exit_code(args: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_version_is_the_package_version() -> None:
    assert run("--version").stdout.decode() == f"malmoi {malmoi.__version__}\n"


def test_help_lists_every_verb() -> None:
    page = run("--help").stdout.decode()
    assert all(f"\n  {verb} " in page for verb in cli.VERBS)


def test_help_takes_less_than_300_ms() -> None:
    def processor_seconds() -> float:  # not the clock's: another process may be busy
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = processor_seconds()
    run("--help")
    assert processor_seconds() - before < 0.3


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_on_the_help_page_is_a_command_that_explains_itself(name: str) -> None:
    command = cli.malmoi.get_command(click.Context(cli.malmoi), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_an_unknown_verb_is_answered_with_the_nearest_one() -> None:
    done = run("genrate")
    assert done.returncode == 2
    assert "there is no verb 'genrate'. Did you mean 'generate'?" in done.stderr.decode()


def test_an_error_of_the_input_is_one_line_without_a_traceback(
    verb: Callable[[Callable[[], None]], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        raise ConfigError("depth=0 builds no model. Use 1 or more.")

    assert exit_code(verb(act)) == 2
    assert capsys.readouterr().err == "error: depth=0 builds no model. Use 1 or more.\n"


def test_ctrl_c_leaves_with_130(verb: Callable[[Callable[[], None]], list[str]]) -> None:
    def act() -> None:
        raise KeyboardInterrupt

    assert exit_code(verb(act)) == 130


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/말"), "error: /etc/말: Permission denied."),
    ],
)
def test_a_full_disk_or_a_forbidden_path_is_told_without_a_traceback(
    verb: Callable[[Callable[[], None]], list[str]],
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    message: str,
) -> None:
    def act() -> None:
        raise error

    assert exit_code(verb(act)) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_bug_keeps_its_traceback(verb: Callable[[Callable[[], None]], list[str]]) -> None:
    def act() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.main(verb(act))


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen([*MALMOI, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp949"}]
)
def test_output_is_utf8_whatever_the_locale(locale: dict[str, str]) -> None:
    assert "말모이" in run("--help", env=locale).stdout.decode("utf-8")
