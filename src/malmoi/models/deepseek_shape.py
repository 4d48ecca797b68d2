"""What DeepSeek-V2 and V3 share besides their assembly: a shape, as a `config.json` says it, and names of tensors.

The half that attention over latents and fine-grained experts add to `llama_shape.py`, which see for the place in the
flow. Read next: `deepseek.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import llama_shape
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import REQUIRED, ConfigReader
from malmoi.models.llama_shape import LlamaShape
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import YarnScaling


@dataclass(frozen=True, kw_only=True)
class DeepseekShape(LlamaShape):
    """What both have. `head_dim` is the part of a head that is rotated, `content_dim` the other.

    The first `num_dense_layers` have no experts. A token's experts are in `num_kept_groups` of `num_groups`, and what
    they add is multiplied by `routed_scale`. `query_rank=None`: queries are not compressed.
    """

    content_dim: int
    value_dim: int
    kv_rank: int
    query_rank: int | None = None
    has_attention_bias: bool = False
    num_dense_layers: int
    num_experts: int
    num_shared_experts: int
    expert_intermediate_size: int
    top_k: int
    num_groups: int = 1
    num_kept_groups: int = 1
    routed_scale: float = 1.0


def stretched(*, mscale: float) -> RopeConfig:
    """Positions stretched from 4,096 tokens to 40 times as many, where scores grow by `mscale`.

    DeepSeek-V2, arXiv:2405.04434, section 3.1.4.
    """
    scaling = YarnScaling(factor=40.0, original_max_positions=4096, mscale=mscale, mscale_all_dim=mscale)
    return RopeConfig(theta=10_000.0, scaling=scaling)


KEYS = {
    "qk_nope_head_dim": "content_dim",
    "v_head_dim": "value_dim",
    "kv_lora_rank": "kv_rank",
    "q_lora_rank": "query_rank",
    "attention_bias": "has_attention_bias",
    "n_routed_experts": "num_experts",
    "n_shared_experts": "num_shared_experts",
    "moe_intermediate_size": "expert_intermediate_size",
    "num_experts_per_tok": "top_k",
    "routed_scaling_factor": "routed_scale",
}
GROUP_KEYS = {"n_group": "num_groups", "topk_group": "num_kept_groups"}


def read_shape(
    reader: ConfigReader, *, num_kv_heads: int | None = None, max_positions: int
) -> dict[str, Any]:
    """All fields but those of the groups. Raises ConfigError for weights in fp8 too."""
    if "quantization_config" in reader.raw:
        raise ConfigError(
            f"{reader.where}: quantization_config={reader.raw['quantization_config']!r} says that the weights are not "
            "stored as plain numbers, which is not read here. Use a checkpoint in bf16."
        )
    # Training's business, where it ran, and the order of a sum.
    reader.disregard("output_router_logits", "aux_loss_alpha", "seq_aux", "ep_size", "pretraining_tp")
    reader.require("moe_layer_freq", 1)
    # None of these may be left out: the two that could be have other defaults in transformers.
    sizes = read_keys(reader, KEYS, DeepseekShape, query_rank=REQUIRED, routed_scale=REQUIRED)
    rope_dim = reader.positive("qk_rope_head_dim", int)
    reader.require("head_dim", rope_dim)
    reader.require("qk_head_dim", sizes["content_dim"] + rope_dim)
    shape = llama_shape.read_shape(
        reader, num_kv_heads=num_kv_heads, head_dim=rope_dim, max_positions=max_positions
    )
    if shape["num_kv_heads"] != shape["num_heads"]:
        raise ConfigError(
            f"{reader.where}: num_key_value_heads={shape['num_kv_heads']}, but each of {shape['num_heads']} heads has "
            "its own key, made of the latent. Make the two equal."
        )
    return {**shape, **sizes, "num_dense_layers": reader.count("first_k_dense_replace")}


def read_groups(reader: ConfigReader) -> dict[str, Any]:
    """How many groups of experts there are, and how many of them a token's experts are in."""
    return read_keys(reader, GROUP_KEYS, DeepseekShape, num_groups=REQUIRED, num_kept_groups=REQUIRED)


def write_shape(config: DeepseekShape) -> dict[str, Any]:
    """`read_shape` and `read_groups` run backwards."""
    return {
        **llama_shape.write_shape(config),
        **write_keys(config, KEYS | GROUP_KEYS),
        "qk_rope_head_dim": config.head_dim,
        "first_k_dense_replace": config.num_dense_layers,
    }


ATTENTION_NAMES = {
    "model.layers.{}.self_attn.q_proj.weight": "blocks.{}.attention.mixer.q.weight",
    "model.layers.{}.self_attn.q_a_proj.{}": "blocks.{}.attention.mixer.q.compress.{}",
    "model.layers.{}.self_attn.q_a_layernorm.weight": "blocks.{}.attention.mixer.q.norm.weight",
    "model.layers.{}.self_attn.q_b_proj.weight": "blocks.{}.attention.mixer.q.expand.weight",
    "model.layers.{}.self_attn.kv_a_proj_with_mqa.{}": "blocks.{}.attention.mixer.latent.{}",
    "model.layers.{}.self_attn.kv_a_layernorm.weight": "blocks.{}.attention.mixer.latent_norm.weight",
    "model.layers.{}.self_attn.kv_b_proj.weight": "blocks.{}.attention.mixer.expand.weight",
    "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.mixer.out.{}",
}
SHARED_NAMES = {
    "model.layers.{}.mlp.shared_experts.gate_proj.weight": "blocks.{}.ffn.mixer.shared.gate.weight",
    "model.layers.{}.mlp.shared_experts.up_proj.weight": "blocks.{}.ffn.mixer.shared.up.weight",
    "model.layers.{}.mlp.shared_experts.down_proj.weight": "blocks.{}.ffn.mixer.shared.down.weight",
}
NAMES = ATTENTION_NAMES | SHARED_NAMES  # beside Llama's and those of the experts
