"""Qwen3-MoE: Qwen3 whose feed-forward sublayer is many small experts (arXiv:2505.09388, section 2).

A layer has 128 experts, a token uses 8 of them, and there is none that all tokens share: the finer they are cut, the
more ways there are to combine them, 28 for Mixtral, 1.4 trillion here. Read `qwen3.py` and `mixtral.py` first; next:
`deepseek.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama, qwen, qwen3
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import NAMES, QK_NORM_NAMES, LlamaShape, assemble, read_shape, write_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.moe import MoE, SoftmaxRouter
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Qwen3MoeConfig(LlamaShape):
    """A sparse Qwen3: `num_experts` of `expert_intermediate_size`, `top_k` for each token, but in `dense_layers`.

    `is_normalised`: the weights of a token's experts sum to 1.
    """

    num_experts: int
    top_k: int
    expert_intermediate_size: int
    is_normalised: bool = True
    dense_layers: tuple[int, ...] = ()
    has_attention_bias: bool = False


def qwen3_30b_a3b() -> Qwen3MoeConfig:
    """Qwen3 30B, of which a token uses 3.3B (arXiv:2505.09388, table 2, and its `config.json`).

    >>> qwen3_30b_a3b().num_experts
    128
    """
    return Qwen3MoeConfig(
        vocab_size=151_936, hidden_size=2048, intermediate_size=6144, num_layers=48, num_heads=32,
        num_kv_heads=4, head_dim=128, max_positions=40_960, norm_eps=1e-6, rope=qwen.ROPE,
        num_experts=128, top_k=8, expert_intermediate_size=768,
    )  # fmt: skip


def build(config: Qwen3MoeConfig) -> Decoder:
    """Qwen3 with experts. Raises ConfigError if there are fewer of them than choices."""

    def block(layer: int) -> Block:
        attention = qwen3.normed_attention(config, rule=AttentionRule(), bias=config.has_attention_bias)
        ffn = llama.swiglu(config) if layer in config.dense_layers else experts(config)
        return llama.pre_norm_block(config, attention, ffn)

    return assemble(config, block, norm=llama.norm(config))


def experts(config: Qwen3MoeConfig) -> MoE:
    """The sparse feed-forward sublayer."""
    router = SoftmaxRouter(
        hidden_size=config.hidden_size,
        num_experts=config.num_experts,
        top_k=config.top_k,
        is_normalised=config.is_normalised,
    )
    size = config.expert_intermediate_size
    return MoE(router=router, experts=[GatedMLP(config.hidden_size, size) for _ in range(config.num_experts)])


EXPERT_NAMES = {
    "model.layers.{}.mlp.gate.weight": "blocks.{}.ffn.mixer.router.score.weight",
    "model.layers.{}.mlp.experts.{}.gate_proj.weight": "blocks.{}.ffn.mixer.experts.{}.gate.weight",
    "model.layers.{}.mlp.experts.{}.up_proj.weight": "blocks.{}.ffn.mixer.experts.{}.up.weight",
    "model.layers.{}.mlp.experts.{}.down_proj.weight": "blocks.{}.ffn.mixer.experts.{}.down.weight",
}


def rules(config: Qwen3MoeConfig) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(NAMES | QK_NORM_NAMES | EXPERT_NAMES))


KEYS = qwen3.BIAS_KEYS | {
    "num_experts": "num_experts",
    "num_experts_per_tok": "top_k",
    "moe_intermediate_size": "expert_intermediate_size",
    "norm_topk_prob": "is_normalised",
}


def read_config(reader: ConfigReader) -> Qwen3MoeConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("use_sliding_window", False)
    reader.disregard("sliding_window", "max_window_layers")  # at which nobody looks without the first
    reader.disregard("output_router_logits", "router_aux_loss_coef")  # training's business
    # What Qwen's own files say of this family's ideas, and of those that it left behind.
    reader.require("use_qk_norm", True)
    reader.require("qkv_bias", False)
    reader.require("shared_expert_intermediate_size", 0)
    shape = read_shape(reader, num_kv_heads=4, max_positions=32_768)
    step = reader.positive("decoder_sparse_step", int, 1)
    dense = reader.take("mlp_only_layers", list, [])
    is_dense = [layer in dense or (layer + 1) % step != 0 for layer in range(shape["num_layers"])]
    # The first key has had two names. The rest are transformers' defaults.
    defaults = {"num_experts": reader.take("num_local_experts", int, 128), "top_k": 8, "is_normalised": False}
    config = Qwen3MoeConfig(
        **shape,
        **read_keys(reader, KEYS, Qwen3MoeConfig, expert_intermediate_size=768, **defaults),
        dense_layers=tuple(layer for layer, dense in enumerate(is_dense) if dense),
    )
    reader.require("num_local_experts", config.num_experts)
    return config


def write_config(config: Qwen3MoeConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_shape(config),
        **write_keys(config, KEYS),
        "mlp_only_layers": list(config.dense_layers),
        "decoder_sparse_step": 1,
    }


PRESETS = {"qwen3-30b-a3b": qwen3_30b_a3b}
FAMILIES = (
    Family(
        model_type="qwen3_moe",
        architecture="Qwen3MoeForCausalLM",
        config_class=Qwen3MoeConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=("128 small experts a layer, of which a token uses 8",),
        grew_from="qwen3",
        optional_prefix="model.",
    ),
)
