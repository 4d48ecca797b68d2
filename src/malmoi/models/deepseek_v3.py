"""DeepSeek-V3: V2 with sigmoid scores and a bias on the choice of experts (arXiv:2412.19437; R1: arXiv:2501.12948).

Section 2.1.2: each expert is scored on its own, and a bias, far more than a loss, keeps their load even: it moves the
choice and not the weights. Left out are the layers that predict one token more (section 2.2), which the published
checkpoints hold after the last layer. Read `deepseek.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import deepseek
from malmoi.models.base import Family
from malmoi.models.deepseek_shape import DeepseekShape, read_groups, read_shape, stretched, write_shape
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.moe import SigmoidRouter
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class DeepseekV3Config(DeepseekShape):
    """A DeepSeek-V3, or R1. `is_normalised`: the weights of a token's experts sum to 1 before they are scaled."""

    is_normalised: bool = True


def deepseek_v3() -> DeepseekV3Config:
    """DeepSeek-V3, 671B parameters, 37B of them active (arXiv:2412.19437, section 4.2; its `config.json`).

    >>> deepseek_v3().top_k, deepseek_v3().num_experts
    (8, 256)
    """
    return DeepseekV3Config(
        vocab_size=129_280, hidden_size=7168, intermediate_size=18_432, num_layers=61, num_heads=128,
        num_kv_heads=128, head_dim=64, max_positions=163_840, norm_eps=1e-6, rope=stretched(mscale=1.0),
        content_dim=128, value_dim=128, kv_rank=512, query_rank=1536, num_dense_layers=3, num_experts=256,
        num_shared_experts=1, expert_intermediate_size=2048, top_k=8, num_groups=8, num_kept_groups=4,
        routed_scale=2.5,
    )  # fmt: skip


def build(config: DeepseekV3Config) -> Decoder:
    """Experts chosen by sigmoids and a bias. Raises ConfigError if experts, choices and groups do not fit."""
    limit = deepseek.limit(config, num_best=2)
    routing = {**deepseek.routing(config), "is_normalised": config.is_normalised}
    return deepseek.assemble(config, lambda: SigmoidRouter(**routing, limit=limit))


BIAS_NAME = "model.layers.{}.mlp.gate.e_score_correction_bias"


def rules(config: DeepseekV3Config) -> Rules:
    """Hugging Face's names and ours."""
    bias = renames({BIAS_NAME: "blocks.{}.ffn.mixer.router.bias"})
    return Rules([*deepseek.rules(config).rules, *bias])


def read_config(reader: ConfigReader) -> DeepseekV3Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("scoring_func", "sigmoid")
    reader.require("topk_method", "noaux_tc")
    reader.require("rope_interleave", True)
    reader.disregard("num_nextn_predict_layers")  # of tokens after the next, for speculation
    return DeepseekV3Config(
        **read_shape(reader, num_kv_heads=128, max_positions=4096),
        **read_groups(reader),
        is_normalised=reader.take("norm_topk_prob", bool, True),
    )


def write_config(config: DeepseekV3Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_shape(config),
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": config.is_normalised,
        "num_nextn_predict_layers": 0,
    }


PRESETS = {"deepseek-v3": deepseek_v3}
FAMILIES = (
    Family(
        model_type="deepseek_v3",
        architecture="DeepseekV3ForCausalLM",
        config_class=DeepseekV3Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "experts scored by a sigmoid each",
            "a bias on the choice of experts keeps their load even, in the place of a loss",
        ),
        grew_from="deepseek_v2",
        optional_prefix="model.",
        # Multi-token prediction: the published checkpoints have 61 layers, numbered from 0, and then one more.
        ignored_tensors=tuple("model.layers.61" + ".{}" * depth for depth in range(2, 6)),
    ),
)
