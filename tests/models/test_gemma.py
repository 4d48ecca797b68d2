"""What only Gemma has: sizes as published, rotations in two spellings, the head that is not one matrix."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm, Gemma2TextScaledWordEmbedding

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, count_parameters, load_config
from malmoi.models.gemma import gemma_2b
from malmoi.models.gemma2 import Gemma2Config, gemma2_2b
from malmoi.models.gemma3 import Gemma3Config, gemma3_1b
from malmoi.nn.cache import DenseCache, RollingCache
from malmoi.nn.context import Context
from malmoi.nn.embedding import Embedding
from malmoi.nn.norm import OffsetRMSNorm
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import LinearScaling

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}
GEMMA2 = SHAPE | {"model_type": "gemma2"}
GEMMA3 = SHAPE | {"model_type": "gemma3_text"}
NESTED = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 7e3},
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    def write_and_read(config: dict[str, Any]) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        return load_config(tmp_path)

    return write_and_read


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        pytest.param(gemma_2b(), 1_981_884_416, id="Gemma 2B, arXiv:2403.08295, table 2"),
        pytest.param(gemma2_2b(), 2_024_517_888, id="Gemma 2 2B, arXiv:2408.00118, table 2"),
        pytest.param(gemma3_1b(), 698_000_000, id="Gemma 3 1B, arXiv:2503.19786, table 1, in millions"),
    ],
)
def test_a_preset_has_as_many_parameters_outside_its_embedding_as_published(
    config: Any, num_parameters: int
) -> None:
    with torch.device("meta"):
        model = build_model(config)
    outside = count_parameters(model) - model.embedding.tokens.weight.numel()
    assert num_parameters in (outside, round(outside, -6))


def test_only_the_global_layers_keep_the_whole_context() -> None:
    with torch.device("meta"):
        caches = build_model(gemma3_1b()).new_caches()
    local, whole = (sum(isinstance(cache, kind) for cache in caches) for kind in (RollingCache, DenseCache))
    assert (local, whole) == (22, 4)


@pytest.mark.parametrize("kind", [Gemma2Config, Gemma3Config])
@pytest.mark.parametrize("pattern", ["lG", "lX", "L", "LGL", "L "])
def test_a_pattern_that_is_not_a_letter_for_each_layer_is_refused(kind: Any, pattern: str) -> None:
    shape = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2, "num_heads": 4}
    with pytest.raises(
        ConfigError, match=f"layer_pattern='{pattern}' is not a letter, L or G, for each of 2"
    ):
        kind(**shape, num_kv_heads=2, head_dim=6, max_positions=64, window=4, layer_pattern=pattern)


def test_no_logit_is_larger_than_the_cap() -> None:
    config = Gemma2Config(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=6, max_positions=64, window=4, layer_pattern="LG", logit_cap=0.25,
    )  # fmt: skip
    model = build_model(config)
    nn.init.normal_(model.head[0].weight, std=100.0)
    logits = model(torch.randint(61, (2, 12))).logits.abs()
    assert 0.24 < logits.max() <= 0.25


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_scale_round_where_the_reference_rounds(dtype: torch.dtype) -> None:
    norm, their_norm = OffsetRMSNorm(24, eps=1e-6), Gemma2RMSNorm(24, eps=1e-6)
    their_norm.weight.copy_(norm.weight.normal_())
    x = (3 * torch.randn(2, 5, 24)).to(dtype)
    assert torch.equal(norm.to(dtype)(x), their_norm.to(dtype)(x))

    # sqrt(3072) is 55.4256 in fp32 and 55.5 in bf16
    scale = 3072**0.5
    embedding = Embedding(61, 24, scale=scale)
    their_embedding = Gemma2TextScaledWordEmbedding(61, 24, padding_idx=0, embed_scale=scale)
    their_embedding.weight.copy_(embedding.tokens.weight)
    tokens = torch.randint(61, (2, 5))
    ours = embedding.to(dtype)(tokens, Context.dense(tokens, specs=[]))
    assert torch.equal(ours, their_embedding.to(dtype)(tokens))


def test_both_spellings_of_two_rotations_mean_the_same(read: Callable[[dict[str, Any]], Any]) -> None:
    old = {"rope_theta": 5e5, "rope_local_base_freq": 7e3, "rope_scaling": {"type": "linear", "factor": 8.0}}
    for config in (
        GEMMA3 | old,
        GEMMA3 | {"rope_parameters": NESTED},
        GEMMA3 | old | {"rope_parameters": NESTED},
    ):
        found = read(config)
        assert isinstance(found, Gemma3Config)
        assert found.rope == RopeConfig(theta=5e5, scaling=LinearScaling(factor=8.0))
        assert found.local_rope == RopeConfig(theta=7e3)


def test_what_a_gemma_3_file_leaves_out_is_as_in_transformers(read: Callable[[dict[str, Any]], Any]) -> None:
    config = read(GEMMA3)
    assert (config.rope, config.local_rope) == (RopeConfig(theta=1e6), RopeConfig(theta=1e4))
    assert (config.layer_pattern, config.window, config.is_tied) == ("LLLLLG", 4096, True)


def test_a_cap_that_is_null_is_none_and_one_that_is_left_out_is_the_default(
    read: Callable[[dict[str, Any]], Any],
) -> None:
    assert (read(GEMMA2).score_cap, read(GEMMA2).logit_cap) == (50.0, 30.0)
    config = read(GEMMA2 | {"attn_logit_softcapping": None, "final_logit_softcapping": None})
    assert (config.score_cap, config.logit_cap) == (None, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GEMMA2 | {"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported"),
        (GEMMA2 | {"attention_bias": True}, "attention_bias=True is not supported"),
        (GEMMA2 | {"hidden_activation": "gelu"}, "hidden_activation='gelu' is not supported"),
        (GEMMA2 | {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        (GEMMA2 | {"sliding_window_pattern": 3}, "sliding_window_pattern=3 is not supported"),
        (GEMMA2 | {"sliding_window": 4, "sliding_window_size": 8}, "sliding_window_size=8 is not supported"),
        (GEMMA2 | {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping=0.0 is not above 0"),
        (GEMMA2 | {"layer_types": ["full_attention"]}, "for each of 6 layers"),
        (GEMMA2 | {"rope_local_base_freq": 1e4}, "'rope_local_base_freq'"),
        (GEMMA3 | {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0 is not supported"),
        (
            GEMMA3 | {"layer_types": ["chunked_attention"] * 6},
            "is not one of sliding_attention, full_attention",
        ),
        (GEMMA3 | {"rope_parameters": NESTED, "rope_theta": 1e6}, "rope_parameters and rope_theta disagree"),
        (GEMMA3 | {"rope_parameters": NESTED | {"chunked_attention": {}}}, "'chunked_attention'"),
        (
            GEMMA3 | {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "'sliding_attention' is missing",
        ),
    ],
    ids=str,
)
def test_what_gemma_does_not_compute_is_refused_by_name(
    read: Callable[[dict[str, Any]], Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config)
