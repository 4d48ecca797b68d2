"""A `config.json` is read whole or refused: published ones load, and what is unknown is named."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.models import build_model, count_parameters, load_config
from malmoi.models.gpt2 import gpt2_small
from malmoi.models.llama import llama3_8b, sized
from malmoi.models.llama_shape import LlamaShape
from malmoi.models.registry import family_of
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import DynamicScaling, LinearScaling, Llama3Scaling

LLAMA = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write_and_read(config: dict[str, Any]) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        return load_config(tmp_path)

    return write_and_read


def scaled(**scaling: Any) -> dict[str, Any]:
    return LLAMA | {"rope_scaling": scaling}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            LLAMA | {"rope_thetta": 5e5},
            r"the key 'rope_thetta' \(500000.0\) is not one that this family reads",
        ),
        (LLAMA | {"b": 1, "a": False}, r"the keys 'a' \(False\), 'b' \(1\) are not"),
        (LLAMA | {"quantization_config": {"bits": 4}}, "'quantization_config'"),
        (LLAMA | {"is_decoder": True}, "'is_decoder'"),
        (LLAMA | {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported here. Supported: 'silu'"),
        (LLAMA | {"rope_interleaved": True}, "rope_interleaved=True is not supported"),
        (LLAMA | {"hidden_size": "24"}, "hidden_size='24' is not a int"),
        (LLAMA | {"hidden_size": True}, "hidden_size=True is not a int"),
        (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers=0 is not above 0"),
        (LLAMA | {"num_key_value_heads": -1}, "num_key_value_heads=-1 is not above 0"),
        (LLAMA | {"rms_norm_eps": -1e-5}, "rms_norm_eps=-1e-05 is not above 0"),
        (LLAMA | {"vocab_size": None}, "the key 'vocab_size' is missing"),
        (LLAMA | {"num_attention_heads": 5}, "hidden_size=24 is not divisible by num_heads=5.*such as 25"),
        (LLAMA | {"rope_theta": 0}, "theta=0.0 is not above 1"),
        (LLAMA | {"rope_scaling": "linear"}, "rope_scaling='linear' is not a dict"),
        (scaled(rope_type="su"), "rope_type='su' is unknown. Known: default, linear,"),
        (scaled(rope_type="linear"), "rope_scaling: the key 'factor' is missing"),
        (scaled(rope_type="linear", factor=2, beta_fast=32), "rope_scaling: the key 'beta_fast'"),
        (scaled(type="default", factor=2.0), "'factor'"),
        (scaled(rope_type="linear", factor=-2), "factor=-2.0 of a rotary scaling is not above 0"),
        (scaled(rope_type="linear", factor=2, partial_rotary_factor=0.5), "partial_rotary_factor=0.5 is not"),
        (scaled(rope_type="longrope", short_factor=["1"], long_factor=[1]), "is not a list of numbers"),
        (
            LLAMA | {"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "rope_theta=10000.0 and rope_theta within rope_parameters=500000.0 disagree",
        ),
        (
            LLAMA
            | {
                "rope_parameters": {"rope_theta": 1e4},
                "rope_scaling": {"type": "default", "rope_theta": 5e5},
            },
            "within rope_parameters=10000.0 and rope_theta within rope_scaling=500000.0 disagree",
        ),
        (
            scaled(type="linear", rope_type="dynamic", factor=2.0),
            "rope_scaling: rope_type=dynamic and type=linear disagree",
        ),
        (scaled(type="yarn", factor=2.0, attention_factor=-1.0), "attention_factor=-1.0 .*is not above 0"),
        (LLAMA | {"rope_theta": float("inf")}, "rope_theta=inf is not a finite number"),
        (LLAMA | {"rms_norm_eps": float("nan")}, "rms_norm_eps=nan is not a finite number"),
        (scaled(type="linear", factor=float("inf")), "factor=inf is not a finite number"),
        (
            LLAMA | {"max_position_embeddings": 2048, "max_sequence_length": 4096},
            "max_sequence_length=4096 is not supported here. Supported: 2048",
        ),
        (
            LLAMA | {"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear", "factor": 2}},
            r"rope_parameters=None and rope_scaling=LinearScaling\(factor=2.0.*\) disagree",
        ),
        (GPT2 | {"activation_function": "gelu"}, "activation_function='gelu' is not supported"),
        (GPT2 | {"add_cross_attention": True}, "'add_cross_attention'"),
        (GPT2 | {"n_ctx": 64}, "n_ctx=64 is not supported here. Supported: 32"),
        (GPT2 | {"rope_theta": 1e4}, "'rope_theta'"),
        ({"model_type": "rwkv"}, "model_type='rwkv' is not a family that Malmoi has. It has:"),
        ({"vocab_size": 61}, "the key 'model_type' is missing"),
    ],
    ids=str,
)
def test_what_we_do_not_compute_is_refused_by_name(read: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"num_key_value_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
        (LLAMA | {"head_dim": 7}, "head_dim=7 is odd"),
        (GPT2 | {"n_head": 5}, "hidden_size=24 is not divisible by num_heads=5"),
        (
            scaled(rope_type="longrope", short_factor=[1.0], long_factor=[1.0], factor=2),
            "short_factor has 1 numbers, but a head of 6 has 3 pairs",
        ),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit_together_are_refused(
    read: Any, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(read(config))


def test_a_missing_or_broken_config_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*config.json"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load_config(tmp_path)


def test_null_is_as_good_as_absent(read: Any) -> None:
    nothing = ["head_dim", "num_key_value_heads", "rope_scaling", "rope_parameters", "hidden_act", "whatever"]
    assert read(LLAMA | dict.fromkeys(nothing)) == read(LLAMA)


def test_both_spellings_at_once_are_fine_if_they_agree(read: Any) -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    config = read(
        LLAMA
        | {"rope_theta": 7e4, "rope_scaling": scaling, "rope_parameters": {**scaling, "rope_theta": 70000}}
    )
    assert config.rope == RopeConfig(theta=7e4, scaling=LinearScaling(factor=2.0))
    assert (
        read(LLAMA | {"rope_scaling": scaling, "rope_parameters": {**scaling, "rope_theta": 7e4}}) == config
    )
    assert read(LLAMA | {"rope_theta": 7e4, "rope_scaling": {**scaling, "type": "linear"}}) == config


PUBLISHED_LLAMA_2 = """{
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
  "pad_token_id": 0, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
  "tie_word_embeddings": false, "torch_dtype": "float16", "transformers_version": "4.31.0.dev0",
  "use_cache": true, "vocab_size": 32000
}"""
PUBLISHED_LLAMA_3_1 = """{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096,
  "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3",
    "original_max_position_embeddings": 8192
  },
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 128256
}"""


def test_llama_2_as_published_is_read(read: Any) -> None:
    config = read(json.loads(PUBLISHED_LLAMA_2))
    assert (config.head_dim, config.rope, config.is_tied) == (128, RopeConfig(theta=1e4), False)


def test_llama_3_1_as_published_is_read(read: Any) -> None:
    assert read(json.loads(PUBLISHED_LLAMA_3_1)).rope == RopeConfig(
        theta=5e5,
        scaling=Llama3Scaling(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192
        ),
    )


def test_keys_of_other_programs_are_passed_over(read: Any) -> None:
    """As small Llamas for browsers and a Korean GPT-2 carry them."""
    others = {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}}
    assert read(LLAMA | others) == read(LLAMA)
    others = {"max_sequence_length": 2048, "output_past": True, "cache_implementation": "hybrid"}
    assert read(LLAMA | others) == read(LLAMA)
    yarn = {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024}
    assert read(scaled(**yarn, finetuned=True)) == read(scaled(**yarn))
    others = {"author": "…", "created_date": "2021-04-28", "license": "CC-BY-NC-SA 4.0", "_num_labels": 1}
    assert read(GPT2 | others) == read(GPT2)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [(gpt2_small(), 124_439_808), (llama3_8b(), 8_030_261_248)],
    ids=["gpt2-small", "llama3-8b"],
)
def test_presets_have_as_many_parameters_as_the_published_models(config: Any, num_parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(config)) == num_parameters


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
def test_one_dial_gives_a_model_of_that_depth(depth: int) -> None:
    with torch.device("meta"):
        model = build_model(sized(depth, vocab_size=256, max_positions=64))
    assert len(model.blocks) == depth
    assert model.config.intermediate_size % 64 == 0
    assert model.config.intermediate_size == pytest.approx(model.config.hidden_size * 8 / 3, abs=64)


def test_a_stranger_configuration_is_of_no_family() -> None:
    shape = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_layers": 1, "num_heads": 1}
    for stranger in (RopeConfig(), LlamaShape(**shape, num_kv_heads=1, head_dim=8, max_positions=8)):
        with pytest.raises(ConfigError, match="is the configuration of no family"):
            family_of(stranger)


def test_only_the_page_of_a_configuration_is_imported_to_build_it() -> None:
    program = (
        "import sys; from malmoi.models import build_model, llama;"
        "build_model(llama.sized(1, vocab_size=8, max_positions=8));"
        "assert not {'malmoi.models.gpt2', 'malmoi.models.whisper'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("length", [16, 64])
def test_a_dynamic_scaling_begins_where_the_models_positions_end(length: int) -> None:
    """Or it would begin elsewhere after saving and loading: `config.json` has one number for both."""
    rope = RopeConfig(scaling=DynamicScaling(factor=2.0, max_positions=length))
    with pytest.raises(ConfigError, match=f"begins after max_positions={length}, but the model's is 32"):
        replace(sized(2, vocab_size=61, max_positions=32), rope=rope)
    assert sized(2, vocab_size=61, max_positions=length).max_positions == length
    replace(sized(2, vocab_size=61, max_positions=length), rope=rope)
