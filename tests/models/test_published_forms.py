"""Checkpoints in the forms that they were published in: rotary scalings and their spellings, shards, leftovers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from malmoi.models import load_model, save_model
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder
from malmoi.weights.files import read_tensors, write_tensors

Check = Callable[..., None]
Randomise = Callable[[Any], Any]


def llama(**changes: Any) -> PreTrainedConfig:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return LlamaConfig(**(small | heads | changes))


def theirs_saved(config: PreTrainedConfig, directory: Path, randomise: Randomise, **options: Any) -> Any:
    model = randomise(AutoModelForCausalLM.from_config(config)).eval()
    model.save_pretrained(directory, **options)
    return model


def load_theirs(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory).eval()


def same_tokens(length: int = 12) -> Tensor:
    return torch.randint(61, (2, length))


@torch.no_grad()
def assert_same_logits(ours: Decoder, theirs: Any, tokens: Tensor, assert_close: Check) -> None:
    assert_close(ours(tokens).logits, theirs(tokens).logits)


@torch.no_grad()
def assert_same_cached_logits(
    ours: Decoder, theirs: Any, tokens: Tensor, chunks: Sequence[int], assert_close: Check
) -> None:
    caches, past, num_cached = ours.new_caches(), None, 0
    for chunk in tokens.split(list(chunks), dim=1):
        context = Context.dense(chunk, specs=ours.cache_specs(), caches=caches, num_cached=num_cached)
        wanted = theirs(chunk, past_key_values=past, use_cache=True)
        assert_close(ours(chunk, context).logits, wanted.logits)
        past, num_cached = wanted.past_key_values, num_cached + chunk.shape[1]


def gpt2() -> PreTrainedConfig:
    small = {"vocab_size": 61, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 32}
    return GPT2Config(**(small | {"bos_token_id": None, "eos_token_id": None}))


def test_sharded_checkpoints_load_in_both_directions(
    tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    theirs = theirs_saved(llama(), tmp_path / "theirs", randomise, max_shard_size="5KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 2
    ours, tokens = load_model(tmp_path / "theirs"), same_tokens()
    assert_same_logits(ours, theirs, tokens, assert_close)
    save_model(ours, tmp_path / "ours")
    write_tensors(tmp_path / "ours", read_tensors(tmp_path / "ours"), max_shard_bytes=5_000)
    assert len(list((tmp_path / "ours").glob("model-*.safetensors"))) > 2
    assert_same_logits(ours, load_theirs(tmp_path / "ours"), tokens, assert_close)


# --- rotary positions --------------------------------------------------------------------------------------

ORIGINAL, STRETCHED, BEYOND = 16, 32, 40
PAIRS = 3  # of a head of 6
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": ORIGINAL, "beta_fast": 4},
    "longrope": {
        "factor": 2.0,
        "original_max_position_embeddings": ORIGINAL,
        "short_factor": [1.0, 1.5, 2],
        "long_factor": [1.0, 3.0, 9],
    },
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "proportional": {"partial_rotary_factor": 0.7},
}


def respell(directory: Path, kind_key: str) -> None:
    """Rewrite the rotary keys of a `config.json` as before transformers 5."""
    file = directory / "config.json"
    config = json.loads(file.read_text("utf-8"))
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    kind = scaling.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {kind_key: kind, **scaling}
    file.write_text(json.dumps(config), "utf-8")


def test_every_rope_type_of_transformers_is_compared() -> None:
    assert SCALINGS.keys() == ROPE_INIT_FUNCTIONS.keys() | {"default"}


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_type", "type"])
@pytest.mark.parametrize("kind", SCALINGS)
def test_every_rope_type_in_every_spelling(
    kind: str, spelling: str, tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    rope = {"rope_type": kind, "rope_theta": 50.0, **SCALINGS[kind]}
    config = llama(max_position_embeddings=STRETCHED, rope_parameters=rope)
    theirs = theirs_saved(config, tmp_path, randomise)
    if spelling != "rope_parameters":
        respell(tmp_path, spelling)
    ours = load_model(tmp_path)
    for length in (ORIGINAL, ORIGINAL + 1, BEYOND):
        assert_same_logits(ours, theirs, same_tokens(length), assert_close)
    save_model(ours, tmp_path / "again")
    assert load_model(tmp_path / "again").config == ours.config
    assert_same_logits(ours, load_theirs(tmp_path / "again"), same_tokens(BEYOND), assert_close)


@pytest.mark.parametrize("kind", SCALINGS)
def test_every_rope_type_with_a_cache_across_the_original_context(
    kind: str, tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    rope = {"rope_type": kind, "rope_theta": 50.0, **SCALINGS[kind]}
    config = llama(max_position_embeddings=STRETCHED, rope_parameters=rope)
    theirs = theirs_saved(config, tmp_path, randomise)
    chunks = [ORIGINAL - 1, 1, 1, 13, 3, 1, 6]
    tokens = same_tokens(sum(chunks))
    assert_same_cached_logits(load_model(tmp_path), theirs, tokens, chunks, assert_close)


def test_what_a_scaling_leaves_out_is_taken_from_the_rest_of_the_config(
    tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    """As Phi-3 does: the original length beside the scaling, and no factor in it."""
    factors = {"short_factor": [1.0, 1.5, 2], "long_factor": [1.0, 3.0, 9]}
    rope = {"rope_type": "longrope", "rope_theta": 50.0, **factors}
    config = llama(
        max_position_embeddings=STRETCHED, original_max_position_embeddings=ORIGINAL, rope_parameters=rope
    )
    theirs = theirs_saved(config, tmp_path, randomise)
    assert_same_logits(load_model(tmp_path), theirs, same_tokens(BEYOND), assert_close)


# --- old checkpoints ---------------------------------------------------------------------------------------


OLD_GPT2 = """{
  "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 60,
  "embd_pdrop": 0.1, "eos_token_id": 60, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
  "model_type": "gpt2", "n_ctx": 32, "n_embd": 24, "n_head": 4, "n_layer": 3, "n_positions": 32,
  "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
  "summary_type": "cls_index", "summary_use_proj": true, "vocab_size": 61,
  "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}
}"""


@pytest.mark.parametrize("has_head", [False, True])
def test_gpt2_as_openai_published_it_loads(
    has_head: bool, tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    """No prefix on any name, the causal masks of each layer beside the weights, perhaps the tied head twice."""
    theirs = theirs_saved(gpt2(), tmp_path, randomise)
    tensors = {
        name.removeprefix("transformer."): tensor.clone()
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    if has_head:
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(OLD_GPT2, "utf-8")
    assert_same_logits(load_model(tmp_path), theirs, same_tokens(), assert_close)


SHAPE: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 6, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 8, "num_experts_per_tok": 2}
LATENTS: dict[str, Any] = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 6, "v_head_dim": 6,
    "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "routed_scaling_factor": 1.0,
    "n_group": 1, "topk_group": 1,
}  # fmt: skip
BARE: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "mixtral": {"num_local_experts": 4},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, **EXPERTS},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "exaone4": {},
    "deepseek_v2": EXPERTS | LATENTS,
    "deepseek_v3": EXPERTS | LATENTS,
}


@torch.no_grad()
@pytest.mark.parametrize("model_type", BARE)
def test_a_decoder_that_was_saved_without_its_head_loads_if_the_head_is_tied(
    model_type: str, tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    """No name then begins with "model."."""
    config = AutoConfig.for_model(model_type, **SHAPE, **BARE[model_type], tie_word_embeddings=True)
    theirs = randomise(AutoModel.from_config(config)).eval()
    theirs.save_pretrained(tmp_path)
    assert not any(name.startswith("model.") for name in load_file(tmp_path / "model.safetensors"))
    ours, tokens = load_model(tmp_path), same_tokens()
    context = Context.dense(tokens, specs=ours.cache_specs())
    assert_close(ours.hidden(tokens, context), theirs(tokens).last_hidden_state)


def test_llama_with_saved_rotary_frequencies_loads(
    tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    theirs = theirs_saved(llama(), tmp_path, randomise)
    tensors = {name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(PAIRS)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_logits(load_model(tmp_path), theirs, same_tokens(), assert_close)
