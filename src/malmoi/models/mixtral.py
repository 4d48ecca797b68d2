"""Mixtral: Mistral whose feed-forward sublayer is a mixture of experts (Jiang et al. 2024, arXiv:2401.04088).

Section 2.1: each layer has eight SwiGLU networks, and a router sends each token through two of them, so that a token
costs what a model of 12.9 billion parameters does, and knows what one of 46.7 billion does. Trained with a second loss
that keeps the experts equally busy (`train.losses.load_balancing_loss`). Read `mistral.py` first; next: `nn/moe.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama, mistral
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import ATTENTION_NAMES, FRAME_NAMES, assemble, read_shape, write_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.moe import MoE, SoftmaxRouter
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class MixtralConfig(mistral.MistralConfig):
    """A Mixtral: `num_experts` networks a layer, `top_k` of them for each token."""

    num_experts: int = 8
    top_k: int = 2


def mixtral_8x7b() -> MixtralConfig:
    """Mixtral 8x7B (arXiv:2401.04088, table 1; its `config.json` has no window).

    >>> mixtral_8x7b().num_experts
    8
    """
    return MixtralConfig(
        vocab_size=32_000, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32,
        num_kv_heads=8, head_dim=128, max_positions=32_768, rope=RopeConfig(theta=1_000_000.0),
    )  # fmt: skip


def build(config: MixtralConfig) -> Decoder:
    """Mistral with experts. Raises ConfigError if heads do not fit, or if there are fewer experts than choices."""
    rule = AttentionRule(window=config.window)
    return assemble(
        config,
        lambda layer: llama.pre_norm_block(config, llama.attention(config, rule=rule), experts(config)),
        norm=llama.norm(config),
    )


def experts(config: MixtralConfig) -> MoE:
    """The feed-forward sublayer: a softmax over the logits of the chosen, SwiGLU for each."""
    router = SoftmaxRouter(
        hidden_size=config.hidden_size,
        num_experts=config.num_experts,
        top_k=config.top_k,
        is_normalised=True,
    )
    return MoE(router=router, experts=[llama.swiglu(config) for _ in range(config.num_experts)])


EXPERT_NAMES = {
    "model.layers.{}.block_sparse_moe.gate.weight": "blocks.{}.ffn.mixer.router.score.weight",
    "model.layers.{}.block_sparse_moe.experts.{}.w1.weight": "blocks.{}.ffn.mixer.experts.{}.gate.weight",
    "model.layers.{}.block_sparse_moe.experts.{}.w3.weight": "blocks.{}.ffn.mixer.experts.{}.up.weight",
    "model.layers.{}.block_sparse_moe.experts.{}.w2.weight": "blocks.{}.ffn.mixer.experts.{}.down.weight",
}


def rules(config: MixtralConfig) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(FRAME_NAMES | ATTENTION_NAMES | EXPERT_NAMES))


KEYS = mistral.KEYS | {"num_local_experts": "num_experts", "num_experts_per_tok": "top_k"}


def read_config(reader: ConfigReader) -> MixtralConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # Training's business: the second loss, and noise on the router's input.
    reader.disregard("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")
    shape = read_shape(reader, num_kv_heads=8, max_positions=4096 * 32, norm_eps=1e-5, theta=1_000_000.0)
    return MixtralConfig(**shape, **read_keys(reader, KEYS, MixtralConfig))


def write_config(config: MixtralConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), **write_keys(config, KEYS)}


PRESETS = {"mixtral-8x7b": mixtral_8x7b}
FAMILIES = (
    Family(
        model_type="mixtral",
        architecture="MixtralForCausalLM",
        config_class=MixtralConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "a mixture of experts: a router sends each token through two of eight networks",
            "a load-balancing loss, which keeps the experts equally busy",
        ),
        grew_from="mistral",
        optional_prefix="model.",
    ),
)
