"""DeepSeek-V2: attention over latents, and many fine-grained experts beside shared ones (arXiv:2405.04434).

Section 2.1: what is cached of a token is one short vector, from which the keys and values of all heads are made
(`nn/mla.py`). Section 2.2, the DeepSeekMoE of arXiv:2401.06066: experts are small and many, some of them are used by
every token, and the others that a token uses are in few groups. Read `llama.py` and `qwen_moe.py` first; next:
`deepseek_v3.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import llama, qwen_moe
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import REQUIRED, ConfigReader
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block
from malmoi.nn.mla import LatentAttention
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.moe import GroupLimit, MoE, Router, SoftmaxRouter
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import YarnScaling
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class DeepseekV2Config(llama.LlamaShape):
    """A DeepSeek-V2. `head_dim` is the part of a head that is rotated, `content_dim` the other.

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
    """Positions stretched from 4,096 tokens to 40 times as many, where scores grow by `mscale` (section 3.1.4)."""
    scaling = YarnScaling(
        factor=40.0, original_max_positions=4096, mscale=mscale, mscale_all_dim=mscale
    )  # fmt: skip
    return RopeConfig(theta=10_000.0, scaling=scaling)


def deepseek_v2_lite() -> DeepseekV2Config:
    """DeepSeek-V2-Lite, 15.7B parameters, 2.4B of them active (arXiv:2405.04434, appendix B; its `config.json`).

    >>> deepseek_v2_lite().kv_rank + deepseek_v2_lite().head_dim      # numbers cached a token and layer
    576
    """
    return DeepseekV2Config(
        vocab_size=102_400, hidden_size=2048, intermediate_size=10_944, num_layers=27, num_heads=16,
        num_kv_heads=16, head_dim=64, max_positions=163_840, norm_eps=1e-6, rope=stretched(mscale=0.707),
        content_dim=128, value_dim=128, kv_rank=512, num_dense_layers=1, num_experts=64, num_shared_experts=2,
        expert_intermediate_size=1408, top_k=6,
    )  # fmt: skip


def build(config: DeepseekV2Config) -> Decoder:
    """Experts chosen by a softmax. Raises ConfigError if experts, choices and groups do not fit."""
    return assemble(
        config, lambda: SoftmaxRouter(**routing(config), is_normalised=False, limit=limit(config, num_best=1))
    )


def assemble(config: DeepseekV2Config, router: Callable[[], Router]) -> Decoder:
    """Llama's frame around attention over latents; a router, and experts, in all but the first layers."""

    def block(layer: int) -> Block:
        is_dense = layer < config.num_dense_layers
        ffn = llama.swiglu(config) if is_dense else experts(config, router())
        return llama.pre_norm_block(config, attention(config), ffn)

    return llama.assemble(config, block)


def attention(config: DeepseekV2Config) -> LatentAttention:
    """Attention over latents, its scores scaled up with the stretch of the positions."""
    scaling = config.rope.scaling
    scale = (config.content_dim + config.head_dim) ** -0.5
    return LatentAttention(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        content_dim=config.content_dim,
        rope_dim=config.head_dim,
        value_dim=config.value_dim,
        kv_rank=config.kv_rank,
        query_rank=config.query_rank,
        bias=config.has_attention_bias,
        rule=AttentionRule(scale=scale * (scaling.score_scale if isinstance(scaling, YarnScaling) else 1.0)),
    )


def experts(config: DeepseekV2Config, router: Router) -> MoE:
    """Fine-grained experts, and the shared ones as a single wider network, which is the same sum."""
    width, size = config.hidden_size, config.expert_intermediate_size
    return MoE(
        router=router,
        experts=[GatedMLP(width, size) for _ in range(config.num_experts)],
        shared=GatedMLP(width, size * config.num_shared_experts),
    )


def routing(config: DeepseekV2Config) -> dict[str, Any]:
    """What a router is told, whatever its scores are."""
    shape = {name: getattr(config, name) for name in ("hidden_size", "num_experts", "top_k")}
    return {**shape, "scale": config.routed_scale}


def limit(config: DeepseekV2Config, *, num_best: int) -> GroupLimit | None:
    """Groups of experts, where there are several."""
    if config.num_groups == 1:
        return None
    return GroupLimit(num_groups=config.num_groups, num_kept=config.num_kept_groups, num_best=num_best)


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


def rules(config: DeepseekV2Config) -> Rules:
    """Hugging Face's names and ours."""
    ffn = llama.MLP_NAMES | qwen_moe.EXPERT_NAMES | SHARED_NAMES
    return Rules(renames(llama.FRAME_NAMES | ATTENTION_NAMES | ffn))


def read_config(reader: ConfigReader) -> DeepseekV2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("norm_topk_prob", False)
    reader.require("scoring_func", "softmax")
    reader.require("mlp_bias", False)
    reader.require("topk_method", "greedy", "group_limited_greedy")
    reader.disregard("n_group", "topk_group")  # which nobody looks at without the method
    has_groups = reader.raw.get("topk_method") == "group_limited_greedy"
    return DeepseekV2Config(
        **read_shape(reader, max_positions=2048), **(read_groups(reader) if has_groups else {})
    )


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
    sizes = read_keys(reader, KEYS, DeepseekV2Config, query_rank=REQUIRED, routed_scale=REQUIRED)
    rope_dim = reader.positive("qk_rope_head_dim", int)
    reader.require("head_dim", rope_dim)
    reader.require("qk_head_dim", sizes["content_dim"] + rope_dim)
    shape = llama.read_shape(
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
    return read_keys(reader, GROUP_KEYS, DeepseekV2Config, num_groups=REQUIRED, num_kept_groups=REQUIRED)


def write_config(config: DeepseekV2Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    method = "greedy" if config.num_groups == 1 else "group_limited_greedy"
    return {**write_shape(config), "topk_method": method, "norm_topk_prob": False}


def write_shape(config: DeepseekV2Config) -> dict[str, Any]:
    """`read_shape` and `read_groups` run backwards."""
    return {
        **llama.write_shape(config),
        **write_keys(config, KEYS | GROUP_KEYS),
        "qk_rope_head_dim": config.head_dim,
        "first_k_dense_replace": config.num_dense_layers,
    }


PRESETS = {"deepseek-v2-lite": deepseek_v2_lite}
FAMILIES = (
    Family(
        model_type="deepseek_v2",
        architecture="DeepseekV2ForCausalLM",
        config_class=DeepseekV2Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "attention over latents: one short vector a token is cached, and all heads are made of it",
            "positions in a part of each head of their own, whose key all heads share",
            "fine-grained experts, beside shared ones that every token uses",
            "a token's experts are in few groups, so on few devices",
        ),
        grew_from="llama",
        optional_prefix="model.",
    ),
)
