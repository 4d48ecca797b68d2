import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from malmoi.cli.main import main
from malmoi.data import encode_files as encoding
from malmoi.data.sources import SourceConfig, read_documents
from malmoi.data.token_files import TokenFile
from malmoi.data.token_manifest import MANIFEST, UNFINISHED
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.training import train_bpe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two files of rows, and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    ByteTokenizer().save("tokenizer")
    for name in ("a", "b"):
        rows = [{"ko": f"바다 {n}", "en": f"sea {n}", "source": f"{name}{n}"} for n in range(30)]
        Path(f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return tmp_path


def run(*arguments: str, out: str = "tokens") -> int:
    with pytest.raises(SystemExit) as left:
        main(["tokenizer", "encode-files", "--tokenizer", "tokenizer", "--out", out, *arguments])
    return int(left.value.code or 0)


def test_a_source_with_the_same_settings_reads_what_the_command_writes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--format", "{ko} {en}", "--exclude", "a1", "--exclude", "b2", "--holdout-permille", "200")
    options += (
        "--holdout-by",
        "text",
        "--max-characters",
        "6",
        "--errors",
        "replace",
        "--tokens-per-shard",
        "300",
    )
    assert run("a.jsonl", "b.jsonl", *options) == 0
    settings: dict[str, Any] = {"format": "{ko} {en}", "exclude": ("a1", "b2"), "holdout_permille": 200}
    settings |= {"holdout_by": "text", "max_characters": 6, "errors": "replace"}
    for split in ("train", "held-out"):
        ours, theirs = (
            [
                document.num_characters
                for document in read_documents(SourceConfig(path=path, **settings), split=split)
            ]
            for path in ("tokens", "?.jsonl")
        )
        assert ours == theirs != []
    manifest = TokenFile("tokens").manifest
    said = capsys.readouterr()
    assert (
        f"tokens: {manifest.num_documents} documents, {manifest.num_tokens:,} tokens of type uint16"
        in said.out
    )
    assert f"shards: {len(manifest.shards)}." in said.out
    assert len(manifest.shards) > 2
    assert said.err == ""  # no bar where there is no terminal


@pytest.mark.parametrize("num_shards", [0, 2])
def test_stopped_with_ctrl_c_the_same_command_goes_on_and_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], num_shards: int
) -> None:
    options = ("a.jsonl", "b.jsonl", "--text-field", "ko", "--tokens-per-shard", "200")
    assert run(*options, out="whole") == 0
    write_shard = encoding.write_shard

    def interrupt(out: Path, number: int, documents: Iterable[Any], *how: Any) -> Any:
        if number == num_shards:
            raise KeyboardInterrupt
        return write_shard(out, number, documents, *how)

    monkeypatch.setattr(encoding, "write_shard", interrupt)
    assert run(*options) == 130
    assert Path("tokens", UNFINISHED).is_file() == Path("tokens").exists() == (num_shards > 0)
    goes_on = "stopped. The same command goes on behind the whole shards in tokens."
    assert capsys.readouterr().err.strip() == (goes_on if num_shards else "")
    assert not Path("tokens", MANIFEST).exists()
    monkeypatch.setattr(encoding, "write_shard", write_shard)
    assert run(*options) == 0
    for file in Path("whole").iterdir():
        assert Path("tokens", file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl"),
        (("a.jsonl",), "text_field='text' is absent"),
        (
            ("a.jsonl", "--text-field", "ko", "--separator", "<s>"),
            "'<s>' is not in the tokenizer's vocabulary",
        ),
        (("a.jsonl", "--text-field", "ko", "--max-characters", "0"), "max_characters=0"),
        (("a.jsonl", "--text-field", "ko", "--tokens-per-shard", "0"), "tokens_per_shard=0"),
        (("a.jsonl", "--text-field", "ko", "--tokenizer", "nowhere"), "nowhere does not exist"),
        (("cp949.txt",), "cp949.txt:1: not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cp949.txt").write_bytes("한국어".encode("cp949"))
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("tokens").exists()


def test_of_a_thousand_special_tokens_a_few_are_named_and_the_option(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    special = tuple(f"<SPECIAL_{number}>" for number in range(1000))
    train_bpe(["a"], vocab_size=1256, special_tokens=special).save("tokenizer")
    assert run("a.jsonl", "--text-field", "ko") == 2
    said = capsys.readouterr().err
    assert "Set separator (--separator) to one of its special tokens: <SPECIAL_0>, <SPECIAL_1>" in said
    assert "... (1,000 in all)" in said
    assert said.count("<SPECIAL_") < 10


def test_encoding_files_needs_no_torch() -> None:
    code = "import malmoi.data.encode_files, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
