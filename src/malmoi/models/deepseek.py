"""DeepSeek-V2: attention over latents, and many fine-grained experts beside shared ones (arXiv:2405.04434).

Section 2.1: what is cached of a token is one short vector, from which the keys and values of all heads are made
(`nn/mla.py`). Section 2.2, the DeepSeekMoE of arXiv:2401.06066: experts are small and many, some of them are used by
every token, and the others that a token uses are in few groups. Read `llama.py` and `qwen_moe.py` first; next:
`deepseek_v3.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from malmoi.models import llama, llama_shape, qwen_moe
from malmoi.models.base import Family
from malmoi.models.deepseek_shape import NAMES, DeepseekShape, read_groups, read_shape, stretched, write_shape
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block
from malmoi.nn.mla import LatentAttention
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.moe import GroupLimit, MoE, Router, SoftmaxRouter
from malmoi.nn.rope_scaling import YarnScaling
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class DeepseekV2Config(DeepseekShape):
    """A DeepSeek-V2."""


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


def assemble(config: DeepseekShape, router: Callable[[], Router]) -> Decoder:
    """Llama's frame around attention over latents; a router, and experts, in all but the first layers."""

    def block(layer: int) -> Block:
        is_dense = layer < config.num_dense_layers
        ffn = llama.swiglu(config) if is_dense else experts(config, router())
        return llama.pre_norm_block(config, attention(config), ffn)

    return llama_shape.assemble(config, block, norm=llama.norm(config))


def attention(config: DeepseekShape) -> LatentAttention:
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


def experts(config: DeepseekShape, router: Router) -> MoE:
    """Fine-grained experts, and the shared ones as a single wider network, which is the same sum."""
    width, size = config.hidden_size, config.expert_intermediate_size
    return MoE(
        router=router,
        experts=[GatedMLP(width, size) for _ in range(config.num_experts)],
        shared=GatedMLP(width, size * config.num_shared_experts),
    )


def routing(config: DeepseekShape) -> dict[str, Any]:
    """What a router is told, whatever its scores are."""
    shape = {name: getattr(config, name) for name in ("hidden_size", "num_experts", "top_k")}
    return {**shape, "scale": config.routed_scale}


def limit(config: DeepseekShape, *, num_best: int) -> GroupLimit | None:
    """Groups of experts, where there are several."""
    if config.num_groups == 1:
        return None
    return GroupLimit(num_groups=config.num_groups, num_kept=config.num_kept_groups, num_best=num_best)


def rules(config: DeepseekShape) -> Rules:
    """Hugging Face's names and ours."""
    ffn = llama_shape.MLP_NAMES | qwen_moe.EXPERT_NAMES
    return Rules(renames(llama_shape.FRAME_NAMES | ffn | NAMES))


def read_config(reader: ConfigReader) -> DeepseekV2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("norm_topk_prob", False)
    reader.require("scoring_func", "softmax")
    reader.require("mlp_bias", False)
    reader.require("topk_method", "greedy", "group_limited_greedy")
    reader.disregard("n_group", "topk_group")  # which nobody looks at without the method
    has_groups = reader.raw.get("topk_method") == "group_limited_greedy"
    return DeepseekV2Config(
        **read_shape(reader, max_positions=2048),
        **(read_groups(reader) if has_groups else {}),
    )


def write_config(config: DeepseekV2Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    method = "greedy" if config.num_groups == 1 else "group_limited_greedy"
    return {**write_shape(config), "topk_method": method, "norm_topk_prob": False}


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
