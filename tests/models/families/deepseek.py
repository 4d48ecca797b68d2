from typing import Any

import transformers

from malmoi.models.deepseek import DeepseekV2Config
from malmoi.models.deepseek_v3 import DeepseekV3Config
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import YarnScaling

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 4,
    "content_dim": 6,
    "value_dim": 5,
    "kv_rank": 8,
    "max_positions": 64,
    "expert_intermediate_size": 12,
}
STRETCHED = RopeConfig(
    theta=500.0,
    scaling=YarnScaling(factor=4.0, original_max_positions=16, mscale=0.7, mscale_all_dim=0.9),
)
OURS = {
    "deepseek_v3": DeepseekV3Config(
        **SMALL, query_rank=10, num_dense_layers=1, num_experts=4, top_k=3, num_shared_experts=1
    ),
    "deepseek_v3, all options": DeepseekV3Config(
        **SMALL,
        rope=STRETCHED,
        num_dense_layers=0,
        num_experts=8,
        top_k=5,
        num_shared_experts=2,
        num_groups=4,
        num_kept_groups=3,
        routed_scale=2.5,
        is_normalised=False,
        norm_eps=1e-4,
        is_tied=True,
    ),
    "deepseek_v2": DeepseekV2Config(
        **SMALL, num_dense_layers=1, num_experts=3, top_k=2, num_shared_experts=2
    ),
    "deepseek_v2, all options": DeepseekV2Config(
        **SMALL,
        query_rank=10,
        has_attention_bias=True,
        num_dense_layers=0,
        num_experts=4,
        top_k=2,
        num_shared_experts=1,
        num_groups=2,
        num_kept_groups=1,
        routed_scale=3.0,
    ),
}


def theirs(version: int, **changes: Any) -> transformers.PreTrainedConfig:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 32}
    latent = {
        "kv_lora_rank": 8,
        "q_lora_rank": 10,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 5,
    }
    experts = {
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "n_shared_experts": 1,
    }
    groups = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    special = {"bos_token_id": None, "eos_token_id": None}
    kind = getattr(transformers, f"DeepseekV{version}Config")
    config: transformers.PreTrainedConfig = kind(
        **(small | heads | latent | experts | groups | special | changes)
    )
    return config


YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 8}
GROUPS = {"n_group": 3, "topk_group": 2, "num_experts_per_tok": 3}
THEIRS = {
    "3": theirs(3),
    "3, groups": theirs(3, **GROUPS),
    "3, weights that are not normalised": theirs(3, norm_topk_prob=False, routed_scaling_factor=1.5),
    "3, queries of full rank": theirs(3, q_lora_rank=None),
    "3, biases": theirs(3, attention_bias=True),
    "3, shared experts": theirs(3, n_shared_experts=2, first_k_dense_replace=0),
    "3, stretched": theirs(3, rope_parameters=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    "3, stretched unevenly": theirs(3, rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 0.9}),
    "3, stretched without a scale": theirs(3, rope_parameters=YARN),
    "3, another epsilon": theirs(3, rms_norm_eps=0.1),
    "2": theirs(2),
    "2, groups": theirs(2, **GROUPS, topk_method="group_limited_greedy", routed_scaling_factor=3.0),
    "2, queries of full rank": theirs(2, q_lora_rank=None, n_shared_experts=2),
    "2, stretched": theirs(2, rope_parameters=YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}),
}

WITHOUT_GRADIENT = {
    "*.ffn.mixer.router.bias": "moved by the load of the experts, not by a gradient",
}
