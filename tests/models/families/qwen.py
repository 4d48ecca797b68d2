from typing import Any

import transformers

from malmoi.models.qwen import Qwen2Config
from malmoi.models.qwen3 import Qwen3Config
from malmoi.models.qwen_moe import Qwen3MoeConfig
from malmoi.nn.rope import RopeConfig

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_positions": 64,
}
SPARSE: dict[str, Any] = {**SMALL, "num_experts": 3, "top_k": 2, "expert_intermediate_size": 12}
OURS = {
    "qwen2": Qwen2Config(**SMALL, head_dim=6),
    "qwen2, a window": Qwen2Config(**SMALL, head_dim=10, window=4, first_windowed_layer=1, is_tied=True),
    "qwen3": Qwen3Config(**SMALL, head_dim=6),
    "qwen3, all options": Qwen3Config(
        **SMALL, head_dim=10, window=4, has_attention_bias=True, rope=RopeConfig(theta=500.0), norm_eps=1e-4
    ),
    "qwen3_moe": Qwen3MoeConfig(**SPARSE, head_dim=6),
    "qwen3_moe, all options": Qwen3MoeConfig(
        **SPARSE, head_dim=10, is_normalised=False, dense_layers=(0,), has_attention_bias=True, is_tied=True
    ),
}


def theirs(kind: str, **changes: Any) -> transformers.PreTrainedConfig:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3}
    rest = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    config: transformers.PreTrainedConfig = getattr(transformers, f"{kind}Config")(**(small | rest | changes))
    return config


def sparse(**changes: Any) -> transformers.PreTrainedConfig:
    small = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
    return theirs("Qwen3Moe", **(small | changes))


WINDOW = {"use_sliding_window": True, "sliding_window": 4}
THEIRS = {
    "2": theirs("Qwen2"),
    "2, tied": theirs("Qwen2", tie_word_embeddings=True),
    "2, windows in the last layer": theirs("Qwen2", **WINDOW, max_window_layers=2),
    "2, windows everywhere": theirs("Qwen2", **WINDOW, max_window_layers=0),
    "2, windows by layer types": theirs(
        "Qwen2", **WINDOW, layer_types=["full_attention", "sliding_attention", "sliding_attention"]
    ),
    "2, a window that is not used": theirs("Qwen2", sliding_window=4, max_window_layers=1),
    "3": theirs("Qwen3"),
    "3, biases and narrow heads": theirs("Qwen3", attention_bias=True, head_dim=10),
    "3, windows": theirs("Qwen3", head_dim=8, **WINDOW, max_window_layers=1),
    "moe": sparse(),
    "moe, normalised": sparse(norm_topk_prob=True, head_dim=10, attention_bias=True),
    "moe, every second layer": sparse(decoder_sparse_step=2),
    "moe, dense layers": sparse(mlp_only_layers=[0, 2]),
}

WITHOUT_GRADIENT = {
    "blocks.*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"
}
