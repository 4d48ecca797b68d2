"""`malmoi transcribe`: a line a file, or as JSON."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from malmoi.cli.transcribe import transcribe
from malmoi.core.errors import MediaError
from malmoi.llm.transcribe import Transcriber, Transcript
from malmoi.models import build_model, whisper


class Stenographer(Transcriber):
    """Writes down what it was asked."""

    def __init__(self) -> None:
        self.model = build_model(whisper.sized(1, num_heads=1, vocab_size=259))

    def transcribe(
        self, sound: object, *, language: str | None = None, task: str = "transcribe"
    ) -> Transcript:
        if sound == Path("broken.wav"):
            raise MediaError("broken.wav is cut off after 0.10 s. Export or fetch it again.")
        return Transcript(text=f"{sound}: {task}", language=language or "ko", tokens=[[5, 6], [7]])


@pytest.fixture(autouse=True)
def stenographer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transcriber, "load", lambda model: Stenographer())


def run(*args: str) -> Result:
    return CliRunner().invoke(transcribe, ["--model", "a-whisper", *args])


def test_each_file_is_a_line_in_the_order_given() -> None:
    assert run("하나.wav", "둘.flac").stdout == "하나.wav: transcribe\n둘.flac: transcribe\n"


def test_translate_asks_for_english() -> None:
    assert run("하나.wav", "--translate").stdout == "하나.wav: translate\n"


def test_json_is_an_object_a_line() -> None:
    lines = run("하나.wav", "둘.flac", "--json", "--language", "en").stdout.splitlines()
    assert json.loads(lines[1]) == {
        "file": "둘.flac",
        "text": "둘.flac: transcribe",
        "language": "en",
        "tokens": [[5, 6], [7]],
    }


def test_what_came_before_a_broken_file_was_printed() -> None:
    result = run("하나.wav", "broken.wav", "둘.flac")
    assert result.stdout == "하나.wav: transcribe\n"
    assert isinstance(result.exception, MediaError)


def test_a_small_model_is_kept_on_one_thread() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert run("하나.wav").exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_model_has_to_be_named() -> None:
    assert CliRunner().invoke(transcribe, ["하나.wav"]).exit_code == 2
