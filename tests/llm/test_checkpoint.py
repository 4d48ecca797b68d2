"""`load`: what a directory says about the end of a text, its beginning, and how to sample."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import tokenizers
import torch
from tokenizers import processors

import malmoi.llm.checkpoint
import malmoi.nn.packed
from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.engine import SamplingParams
from malmoi.llm import load
from malmoi.models import build_model, initialise, save_model
from malmoi.models.bert import BertConfig
from malmoi.nn.packed import PackedWeight
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


@pytest.mark.parametrize("is_worth_packing", [True, False])
def test_bf16_is_laid_out_for_the_processor_where_that_is_faster(
    directory: Path, monkeypatch: pytest.MonkeyPatch, is_worth_packing: bool
) -> None:
    monkeypatch.setattr(malmoi.nn.packed, "is_worth_packing", lambda: is_worth_packing)
    model = load(directory, dtype="bf16").model
    assert any(isinstance(module, PackedWeight) for module in model.modules()) == is_worth_packing


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


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"max_new_tokens": 9}, SamplingParams(max_tokens=9)),
        ({"min_new_tokens": 2, "typical_p": 0.9}, SamplingParams(min_tokens=2, typical_p=0.9)),
        ({"max_length": 4096}, SamplingParams()),  # of prompt and answer together
        ({"suppress_tokens": [5, 7]}, SamplingParams(logit_bias={5: -100, 7: -100})),
        ({"bad_words_ids": [[8]], "suppress_tokens": [5]}, SamplingParams(logit_bias={5: -100, 8: -100})),
        ({"stop_strings": "끝"}, SamplingParams(stop="끝")),
        ({"stop_strings": ["끝", "\n"]}, SamplingParams(stop=("끝", "\n"))),
        (
            {"num_beam_groups": 2, "no_repeat_ngram_size": 3, "min_length": 56, "forced_eos_token_id": 2},
            SamplingParams(),
        ),
        ({"num_beams": 1, "length_penalty": 2.0}, SamplingParams()),
        (
            {"num_beams": 4, "length_penalty": 2, "early_stopping": "never", "top_p": 0.9},
            SamplingParams(temperature=0, beam_width=4, length_penalty=2, early_stopping="never", top_p=0.9),
        ),
        ({"num_beams": 4, "do_sample": True, "top_p": 0.9}, SamplingParams(top_p=0.9)),  # it draws
        ({"num_beams": 4, "do_sample": False}, SamplingParams(temperature=0, beam_width=4)),
    ],
    ids=str,
)
def test_what_sampling_can_do_is_taken_and_no_file_is_refused_for_the_rest(
    directory: Path, keys: dict[str, Any], expected: SamplingParams
) -> None:
    change(directory / "generation_config.json", **keys)
    assert load(directory).default_params == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"temperature": -1.0}, r"temperature=-1\.0: temperature=-1\.0 is out of range"),
        ({"top_p": "0.9"}, "top_p='0.9': top_p='0.9' is out of range"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: max_tokens=0 is out of range"),
        (
            {"max_new_tokens": 2, "min_new_tokens": 3},
            "min_new_tokens=3: min_tokens=3 is more than max_tokens=2",
        ),
        ({"stop_strings": 3}, "stop_strings=3: "),
        ({"num_beams": "4"}, "num_beams='4': this is not of the type int"),
        ({"num_beams": 4, "length_penalty": 11}, "length_penalty=11: length_penalty=11 is out of range"),
        ({"num_beams": 4, "early_stopping": "now"}, "early_stopping='now': early_stopping='now' is unknown"),
        ({"do_sample": "yes"}, "do_sample='yes': this is not of the type bool"),
        ({"eos_token_id": "2"}, "eos_token_id='2': this is neither the id of a token nor a list of them"),
        ({"eos_token_id": [[2]]}, r"eos_token_id=\[\[2\]\]: this is neither"),
        ({"eos_token_id": True}, "eos_token_id=True: this is neither"),
        ({"eos_token_id": -2}, "eos_token_id=-2: this is neither"),
        ({"suppress_tokens": [1.5]}, r"suppress_tokens=\[1\.5\]: this is neither"),
        ({"bad_words_ids": [[1, 2]]}, r"bad_words_ids=\[\[1, 2\]\]: only lists of one token each"),
        ({"bad_words_ids": [[-1]]}, r"bad_words_ids=\[\[-1\]\]: only lists of one token each"),
        ({"bad_words_ids": 5}, "bad_words_ids=5: this is not of the type list"),
    ],
    ids=str,
)
def test_a_value_that_means_nothing_is_refused_with_its_file_and_its_key(
    directory: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # annotations are no assertions for users
    change(directory / "generation_config.json", **keys)
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {message}"):
        load(directory)


def test_the_file_that_is_named_is_the_one_with_the_mistake(directory: Path) -> None:
    change(directory / "config.json", eos_token_id="2")
    with pytest.raises(CheckpointError, match=r"[\\/]config\.json: eos_token_id='2'"):
        load(directory)


def test_an_encoder_is_refused_with_the_commands_that_take_it(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=259, hidden_size=16, intermediate_size=24, num_layers=1, num_heads=2, max_positions=64
    )
    save_model(initialise(build_model(config), seed=0), tmp_path)
    ByteTokenizer().save(tmp_path)
    with pytest.raises(ConfigError, match="Use `malmoi embed` or `malmoi classify`, or TextEncoder.load"):
        load(tmp_path)


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
