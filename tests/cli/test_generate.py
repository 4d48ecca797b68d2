"""`malmoi generate`: plain, as JSON, and explained."""

import codecs
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from malmoi.cli.generate import generate
from malmoi.core.errors import DataError, RequestError
from malmoi.engine import SamplingParams
from malmoi.testing.models import tiny_llm

from .conftest import ParrotLLM


def run(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(generate, args, input=stdin)


def test_the_continuation_is_all_that_is_printed(parrot: ParrotLLM) -> None:
    assert run("한글은", "--temperature", "0", "--stop", "끝", "--stop", "\n").stdout == "안녕하세요.\n"
    prompt, params = parrot.heard[0]
    assert prompt == "한글은"
    assert (params.temperature, params.stop, params.top_k) == (0, ("끝", "\n"), 7)


def test_a_dash_reads_the_prompt_from_standard_input(parrot: ParrotLLM) -> None:
    run("-", stdin="첫 줄\n둘째 줄\n".encode())
    assert parrot.heard[0][0] == "첫 줄\n둘째 줄"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_text_from_windows_is_the_same_text(parrot: ParrotLLM, mark: bytes, newline: str) -> None:
    run("-", stdin=mark + newline.join(["첫 줄", "둘\r째 \ufeff줄", "", ""]).encode())
    assert parrot.heard[0][0] == "첫 줄\n둘\r째 \ufeff줄\n"


def test_json_is_one_line_with_all_of_the_completion(parrot: ParrotLLM) -> None:
    result = run("한글은", "--json", "--max-tokens", "1")
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == {
        "text": "안녕",
        "tokens": [0],
        "finish_reason": "length",
        "logprobs": None,
        "prompt_logprobs": None,
        "siblings": [],
        "thought": "",
        "tool_calls": [],
        "stop": None,
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "cached_tokens": 0,
            "thought_tokens": 0,
            "total_tokens": 4,
        },
        "timings": {"token_times": [0.25]},
    }


def test_json_holds_the_bytes_of_a_token_also_where_they_are_no_text(parrot: ParrotLLM) -> None:
    first, _second = json.loads(run("한글은", "--json", "--verbose").stdout)["logprobs"]
    assert bytes(first["bytes"]).decode() == "안녕"
    assert first["top"][1] == {
        "token": 99,
        "bytes": [0xEA, 0xB0],
        "logprob": -2.0,
        "probability": 0.0,
        "top": [],
    }


def test_verbose_shows_candidates_probabilities_and_time_of_each_token(parrot: ParrotLLM) -> None:
    result = run("한글은", "--verbose")
    assert result.stdout == "안녕하세요.\n"
    (row,) = [line for line in result.stderr.splitlines() if "'하세요.'" in line]
    assert "37→50" in row  # e**-1, and what the parrot says
    assert "<ea b0> 14→0" in row
    assert "250.0" in row
    assert "3 tokens in, 2 out, ended by stop; first token after 0.250 s, then 4.0 tokens/s" in result.stderr


def test_what_is_shown_of_a_real_model_is_its_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = tiny_llm()
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: llm)
    args = ["한글은", "--max-tokens", "4", "--temperature", "0.5", "--seed", "1", "--verbose"]
    shown = json.loads(run(*args, "--json").stdout)
    completion = llm.generate("한글은", SamplingParams(max_tokens=4, temperature=0.5, seed=1, logprobs=5))
    assert shown["tokens"] == completion.tokens
    assert [len(token["top"]) for token in shown["logprobs"]] == [5] * 4
    assert "4 out, ended by length" in run(*args).stderr


def test_several_answers_are_printed_numbered_and_as_json_beside_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = tiny_llm()
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: llm)
    args = ["한글은", "--max-tokens", "4", "--seed", "1", "--set", "n=2"]
    first = llm.generate("한글은", SamplingParams(max_tokens=4, seed=1, n=2))
    [second] = first.siblings
    assert run(*args).stdout == f"[1] {first.text}\n[2] {second.text}\n"
    assert run(*args, "--verbose").stderr.count("4 out, ended by length") == 2
    shown = json.loads(run(*args, "--json").stdout)
    assert [one["tokens"] for one in (shown, *shown["siblings"])] == [first.tokens, second.tokens]
    assert shown["siblings"][0]["usage"]["total_tokens"] == second.usage.total_tokens


def test_a_schema_is_read_from_a_file_before_a_model_is_loaded(parrot: ParrotLLM, tmp_path: Path) -> None:
    file = tmp_path / "양식.json"
    file.write_text('{"type": "object"}', "utf-8")
    run("한글은", "--json-schema", str(file), "--script-lock", "hangul", "--script-lock", "han")
    params = parrot.heard[0][1]
    assert (params.json_schema, params.script_lock) == ('{"type": "object"}', ("hangul", "han"))
    assert isinstance(run("한글은", "--json-schema", str(tmp_path / "없음")).exception, DataError)
    assert len(parrot.heard) == 1


def test_verbose_keeps_a_number_of_candidates_that_was_asked_for(parrot: ParrotLLM) -> None:
    run("한글은", "--verbose", "--set", "logprobs=9")
    assert parrot.heard[0][1].logprobs == 9


def test_images_and_sounds_are_handed_on_in_the_order_given(parrot: ParrotLLM) -> None:
    options = ["--image", "하나.png", "--audio", "소리.wav", "--image", "둘.webp"]
    assert run("무엇이 보여?", *options).stdout == "안녕하세요.\n"
    assert parrot.seen == [((Path("하나.png"), Path("둘.webp")), (Path("소리.wav"),))]


def test_a_wrong_parameter_is_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: pytest.fail("was loaded"))
    assert isinstance(run("한글은", "--temperature", "-1").exception, RequestError)


def test_korean_that_is_not_utf8_is_refused(parrot: ParrotLLM) -> None:
    assert isinstance(run("-", stdin="한글".encode("cp949")).exception, DataError)
    assert parrot.heard == []
