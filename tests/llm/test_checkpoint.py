"""`load`: what a directory says about the end of a text, its beginning, and how to sample."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import processors

import malmoi.llm.checkpoint
from malmoi.core.errors import CheckpointError, RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import load
from malmoi.models import save_model
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate

SPECIAL = ByteTokenizer().special_tokens
TEXT_END, TURN_END = SPECIAL["<|endoftext|>"], SPECIAL["<|im_end|>"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkpoint with a model, a tokenizer and our chat format, and no defaults."""
    save_model(tiny_llama(), tmp_path)
    ByteTokenizer().save(tmp_path)
    ChatTemplate.default().save(tmp_path)
    return tmp_path


def change(file: Path, **values: Any) -> None:
    old = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(old | values), "utf-8")


def test_what_is_loaded_is_what_was_saved(directory: Path) -> None:
    params = SamplingParams(seed=1, max_tokens=10)
    loaded = load(directory)
    assert loaded.engine.generate([[5, 6]], params)[0].ids == (
        malmoi.Engine(tiny_llama()).generate([[5, 6]], params)[0].ids
    )
    assert loaded.chat([{"role": "user", "content": "안녕"}], params).usage.completion_tokens == 10


def test_dtype_is_that_of_the_file_unless_another_is_asked_for(directory: Path) -> None:
    assert load(directory).model.dtype == torch.float32
    assert load(directory, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_none_is_the_model_that_ships(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malmoi.llm.checkpoint, "default_model", lambda: directory)
    assert load().generate("가", SamplingParams(max_tokens=1)).tokens


def test_stop_ids_are_the_generation_configs_else_the_configs_else_the_tokenizers(directory: Path) -> None:
    assert load(directory).stop_ids == set()
    change(directory / "tokenizer_config.json", eos_token="<|im_start|>")
    assert load(directory).stop_ids == {SPECIAL["<|im_start|>"]}
    change(directory / "tokenizer_config.json", eos_token={"content": "<|im_end|>", "lstrip": False})
    assert load(directory).stop_ids == {TURN_END}
    change(directory / "config.json", eos_token_id=TEXT_END)
    assert load(directory).stop_ids == {TEXT_END}
    change(directory / "generation_config.json", eos_token_id=[TEXT_END, TURN_END])
    assert load(directory).stop_ids == {TEXT_END, TURN_END}


def test_default_parameters_are_the_generation_configs(directory: Path) -> None:
    assert load(directory).default_params == SamplingParams()
    change(directory / "generation_config.json", do_sample=True, temperature=0.7, top_p=0.9, top_k=None)
    assert load(directory).default_params == SamplingParams(temperature=0.7, top_p=0.9)
    change(directory / "generation_config.json", do_sample=False)
    assert load(directory).default_params == SamplingParams(temperature=0, top_p=0.9)


def test_defaults_out_of_range_are_refused(directory: Path) -> None:
    change(directory / "generation_config.json", temperature=-1.0)
    with pytest.raises(RequestError, match=r"temperature=-1\.0"):
        load(directory)


def test_a_broken_generation_config_is_refused_by_name(directory: Path) -> None:
    (directory / "generation_config.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        load(directory)


def with_bos_in_the_file(directory: Path) -> None:
    file = directory / "tokenizer.json"
    content = tokenizers.Tokenizer.from_file(str(file))
    content.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", TEXT_END)]
    )
    content.save(str(file))


def test_a_text_begins_as_in_transformers(directory: Path) -> None:
    from transformers import AutoTokenizer

    for prepare in (lambda _: None, with_bos_in_the_file):
        prepare(directory)
        theirs = AutoTokenizer.from_pretrained(directory)
        for text in ("한글은", ""):
            assert load(directory).prompt_ids(text) == theirs(text)["input_ids"]


def test_a_text_begins_with_bos_if_the_tokenizers_configuration_says_so(directory: Path) -> None:
    plain = ByteTokenizer().encode("가")
    change(directory / "tokenizer_config.json", bos_token="<|endoftext|>")
    assert load(directory).prompt_ids("가") == plain
    assert load(directory).prompt_ids("") == [TEXT_END]
    change(directory / "tokenizer_config.json", add_bos_token=True)
    assert load(directory).prompt_ids("가") == [TEXT_END, *plain]


def test_a_chat_begins_as_its_format_says_and_with_nothing_else(directory: Path) -> None:
    with_bos_in_the_file(directory)
    messages = [{"role": "user", "content": "가"}]
    rendered = ChatTemplate.default().render(messages, ByteTokenizer(), add_generation_prompt=True)
    assert load(directory).prompt_ids(messages) == rendered.ids


def test_loading_and_answering_never_load_the_compiler(directory: Path) -> None:
    # torch._dynamo takes a second or more to import, and several innocent calls of PyTorch do.
    code = f"""
import sys
from malmoi.engine import SamplingParams
from malmoi.llm import load
llm = load({str(directory)!r})
llm.generate("가", SamplingParams(max_tokens=2))
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
