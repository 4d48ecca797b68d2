"""`malmoi router train` and `report`: from judged rows to a curve, and what goes wrong on the way."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.router.conftest import judged_questions, write_judged, write_lines

from malmoi.cli.main import main
from malmoi.router import Router


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["router", *arguments])
    return int(left.value.code or 0)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    train, dev = judged_questions(600), judged_questions(300, seed=1)
    return write_judged(tmp_path / "train.jsonl", train), write_judged(tmp_path / "dev.jsonl", dev)


def test_the_way_from_judged_rows_to_a_page(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "router"
    assert run("train", files[0], "--out", str(out), "--quality", "0.9") == 0
    told = capsys.readouterr().out
    assert "held out: log loss" in told
    manifest = Router.load(out).manifest
    assert (manifest.dial, manifest.data) == ("quality 0.9", (files[0],))
    assert manifest.num_learned + manifest.num_held_out == 600
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    assert run("report", str(out), files[1], "--html", str(page), "--png", str(picture)) == 0
    told = capsys.readouterr().out
    assert "APGR" in told
    assert "The router is better than chance" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "The router is better than chance" in page.read_text(encoding="utf-8")


def test_prices_and_the_share_reach_the_manifest(files: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "router")
    dial = ("--strong-share", "0.3", "--prices", "8.5", "17.9", "--per", "token", "--answer-tokens", "20")
    assert run("train", files[0], "--out", out, *dial) == 0
    manifest = Router.load(out).manifest
    assert manifest.dial == "strong-share 0.3"
    assert (manifest.cost.weak, manifest.cost.strong, manifest.cost.unit) == (8.5, 17.9, "token")
    assert manifest.cost.answer_tokens == 20


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--quality", "0.9", "--strong-share", "0.5"), "Give one"),
        (("--quality", "95"), "not in the range"),
        (("--prices", "2", "1"), "not dearer"),
        (("--answer-tokens", "5"), "goes with --per token"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_read(
    options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "nowhere.jsonl", "--out", str(tmp_path / "router"), *options) == 2
    assert told in capsys.readouterr().err


def test_a_wrong_row_is_told_with_its_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(
        tmp_path / "judged.jsonl", [{"prompt": "왜?", "weak": 1, "strong": 1}, {"prompt": "왜?"}]
    )
    assert run("train", path, "--out", str(tmp_path / "router")) == 2
    assert f"{path}:2: the row has the keys prompt." in capsys.readouterr().err
    assert not (tmp_path / "router").exists()


def test_a_report_on_no_router_is_an_error(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", str(tmp_path), files[1]) == 2
    assert "router.json" in capsys.readouterr().err


def test_without_matplotlib_the_tables_are_printed_and_a_picture_is_refused_first(
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("train", files[0], "--out", str(tmp_path / "router")) == 0
    monkeypatch.setattr("malmoi.router.plot.find_spec", lambda name: None)
    assert run("report", str(tmp_path / "router"), files[1]) == 0
    assert run("report", str(tmp_path / "router"), "nowhere.jsonl", "--png", str(tmp_path / "x.png")) == 2
    assert "malmoi[train]" in capsys.readouterr().err


def test_neither_command_loads_torch(files: tuple[str, str], tmp_path: Path) -> None:
    code = (
        "import sys; from malmoi.cli.main import _run; "
        f"code = _run(['router', 'train', {files[0]!r}, '--out', {str(tmp_path / 'router')!r}]); "
        f"code += _run(['router', 'report', {str(tmp_path / 'router')!r}, {files[1]!r}]); "
        "sys.exit(code or ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
