"""T5: every task is text to text, and positions are distances (Raffel et al. 2020, arXiv:1910.10683).

Section 2.1: a norm without mean and bias before each sublayer, no biases anywhere, and a learned number for each head
and bucket of distances, added to the scores and shared by all layers of a stack (`nn.relative`); scores are not
divided by the square root of the head's width. It learns by span corruption (section 3.3.4;
`data.denoise.corrupt_spans`). Version 1.1 and mT5 (Xue et al. 2020, arXiv:2010.11934) have a gated network and a head
of its own.

The reference keeps the last matrix of each feed-forward network in fp32 when it loads fp16; here all weights have the
precision that is asked for. bf16 has fp32's range and needs no such care.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, CrossAttention
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.embedding import Embedding
from malmoi.nn.mlp import MLP, GatedMLP, gelu_tanh
from malmoi.nn.norm import RMSNorm
from malmoi.nn.relative import RelativeBias
from malmoi.nn.stack import Decoder, EncoderDecoder, Stack
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """A T5's shape; `head_dim` is free of `hidden_size / num_heads`.

    `max_positions` is the length that it was trained with; distances have no end. `is_gated` is version 1.1's
    feed-forward network. With a tied head, version 1.0 scales the last states down (`scales_logits`).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    head_dim: int
    num_buckets: int = 32
    max_distance: int = 128
    max_positions: int = 512
    norm_eps: float = 1e-6
    is_gated: bool = False
    is_tied: bool = True
    scales_logits: bool = True


@dataclass(frozen=True, kw_only=True)
class MT5Config(T5Config):
    """mT5: T5 1.1 with another vocabulary. Raises ConfigError for scaled logits, which its files cannot say."""

    scales_logits: bool = False

    def __post_init__(self) -> None:
        if self.scales_logits:
            raise ConfigError(
                "scales_logits=True of an MT5Config, but no mT5 scales its logits. Use a T5Config, or leave it out."
            )


C = TypeVar("C", bound=T5Config)


def t5_small() -> T5Config:
    """T5 Small (arXiv:1910.10683, section 3.7): about 60 million parameters.

    >>> t5_small().num_heads * t5_small().head_dim
    512
    """
    return T5Config(
        vocab_size=32_128, hidden_size=512, intermediate_size=2048, num_layers=6, num_decoder_layers=6,
        num_heads=8, head_dim=64,
    )  # fmt: skip


def t5_v1_1_base() -> T5Config:
    """T5 1.1 Base, the model card's sizes: 248 million parameters."""
    return T5Config(
        vocab_size=32_128, hidden_size=768, intermediate_size=2048, num_layers=12, num_decoder_layers=12,
        num_heads=12, head_dim=64, is_gated=True, is_tied=False, scales_logits=False,
    )  # fmt: skip


class ScaledRMSNorm(RMSNorm):
    """RMSNorm, and then `hidden_size ** -0.5` times that: what version 1.0 does before its tied head."""

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        normed: Tensor = super().forward(x)
        return normed.mul(x.shape[-1] ** -0.5)


def build(config: T5Config) -> EncoderDecoder:
    """The network: no biases, and one RelativeBias a stack, which all of its layers share.

    >>> model = build(replace(t5_small(), vocab_size=9, num_layers=2))
    >>> first, second = (block.attention.mixer for block in model.encoder.blocks)
    >>> first.score_bias is second.score_bias, first.rule.scale
    (True, 1.0)
    """
    norm = partial(RMSNorm, config.hidden_size, eps=config.norm_eps)
    sizes = ("hidden_size", "num_heads", "head_dim")
    heads: dict[str, Any] = {name: getattr(config, name) for name in sizes}

    def attention(score_bias: RelativeBias) -> PreNorm:
        rule = AttentionRule(is_causal=not score_bias.is_bidirectional, scale=1.0)
        mixer = Attention(**heads, num_kv_heads=config.num_heads, rule=rule, rope=None, score_bias=score_bias)
        return PreNorm(norm(), mixer)

    def ffn() -> PreNorm:
        gated, plain = partial(GatedMLP, activation=gelu_tanh), partial(MLP, activation=F.relu, bias=False)
        mlp = gated if config.is_gated else plain
        return PreNorm(norm(), mlp(config.hidden_size, config.intermediate_size))

    bias = partial(
        RelativeBias,
        num_heads=config.num_heads,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
    )
    both_ways, back = bias(is_bidirectional=True), bias(is_bidirectional=False)
    embedding = Embedding(config.vocab_size, config.hidden_size)
    last_norm = ScaledRMSNorm if config.scales_logits else RMSNorm
    return EncoderDecoder(
        encoder=Stack(
            embedding=embedding,
            blocks=[Block(attention=attention(both_ways), ffn=ffn()) for _ in range(config.num_layers)],
            norm=norm(),
            max_positions=config.max_positions,
        ),
        decoder=Decoder(
            embedding=embedding,
            blocks=[
                Block(
                    attention=attention(back),
                    cross=PreNorm(norm(), CrossAttention(**heads, scale=1.0)),
                    ffn=ffn(),
                )
                for _ in range(config.num_decoder_layers)
            ],
            norm=last_norm(config.hidden_size, eps=config.norm_eps),
            head=output_head(embedding, is_tied=config.is_tied),
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        ),
    )


def rules(config: T5Config) -> Rules:
    """Hugging Face's names and ours: it numbers the sublayers, which the two stacks have two and three of."""
    names = {
        "shared.weight": "encoder.embedding.tokens.weight",
        "decoder.embed_tokens.weight": "decoder.embedding.tokens.weight",
        "lm_head.weight": "decoder.head.weight",
        "{}.final_layer_norm.weight": "{}.norm.weight",
    }
    matrices = {"wi_0": "gate", "wi_1": "up", "wo": "down"} if config.is_gated else {"wi": "up", "wo": "down"}
    for stack, sublayers in (
        ("encoder", {"attention": "SelfAttention", "ffn": "DenseReluDense"}),
        ("decoder", {"attention": "SelfAttention", "cross": "EncDecAttention", "ffn": "DenseReluDense"}),
    ):
        for number, (ours, theirs) in enumerate(sublayers.items()):
            layer, block = f"{stack}.block.{{}}.layer.{number}.", f"{stack}.blocks.{{}}.{ours}."
            names[layer + "layer_norm.weight"] = block + "norm.weight"
            parts = matrices if ours == "ffn" else {"q": "q", "k": "k", "v": "v", "o": "out"}
            if ours == "attention":
                parts = parts | {"relative_attention_bias": "score_bias.table"}
            names |= {f"{layer}{theirs}.{x}.weight": f"{block}mixer.{y}.weight" for x, y in parts.items()}
    return Rules(renames(names))


KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "d_kv": "head_dim",
    "num_heads": "num_heads",
    "num_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "relative_attention_num_buckets": "num_buckets",
    "relative_attention_max_distance": "max_distance",
    "n_positions": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "is_tied",
}
# No mT5 scales its logits, even where its head is tied.
T5_KEYS = KEYS | {"scale_decoder_outputs": "scales_logits"}


def read_config(reader: ConfigReader) -> T5Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    is_tied = reader.take("tie_word_embeddings", bool, True)
    return _read(reader, T5_KEYS, T5Config, feed_forward="relu", scales_logits=is_tied)


def read_mt5_config(reader: ConfigReader) -> MT5Config:
    """`read_config` for mT5."""
    return _read(reader, KEYS, MT5Config, feed_forward="gated-gelu")


def _read(
    reader: ConfigReader, keys: Mapping[str, str], kind: type[C], *, feed_forward: str, **defaults: Any
) -> C:
    reader.require("is_encoder_decoder", True)
    reader.require("feed_forward_proj", "relu", "gated-gelu")
    is_gated = reader.take("feed_forward_proj", str, feed_forward) == "gated-gelu"
    reader.require("is_gated_act", is_gated)  # transformers writes down what it made of the key above
    reader.require("dense_act_fn", "gelu_new" if is_gated else "relu")
    # Training's business, and a classifier's.
    reader.disregard("dropout_rate", "initializer_factor", "classifier_dropout")
    depth = reader.positive("num_layers", int)
    return kind(**read_keys(reader, keys, kind, num_decoder_layers=depth, **defaults), is_gated=is_gated)


def settle_tie(config: C, tensors: Mapping[str, Tensor]) -> C:
    """`config` with a head of its own, if the file has one: transformers 5 says of every T5 that its head is tied."""
    shared, head = tensors.get("shared.weight"), tensors.get("lm_head.weight")
    if not config.is_tied or shared is None or head is None:
        return config
    return replace(config, is_tied=torch.equal(shared, head))


def write_config(config: T5Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_keys(config, KEYS if isinstance(config, MT5Config) else T5_KEYS),
        "feed_forward_proj": "gated-gelu" if config.is_gated else "relu",
        "is_encoder_decoder": True,
        "pad_token_id": None,
    }


PRESETS = {"t5-small": t5_small, "t5-v1.1-base": t5_v1_1_base}
T5 = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    config_class=T5Config,
    build=build,
    rules=rules,
    read_config=read_config,
    write_config=write_config,
    ideas=(
        "relative positions: a learned number for each head and bucket of distances, shared by all layers",
        "RMSNorm before each sublayer, no biases, scores that are not scaled",
        "every task is text to text, learned by span corruption",
        "version 1.1: a gated feed-forward network, and a head of its own",
    ),
    grew_from="transformer",
    settle=settle_tie,
    # A bias that the first files had without use.
    ignored_tensors=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    old_endings={"encoder.embed_tokens.weight": "shared.weight"},
)
FAMILIES = (
    T5,
    replace(
        T5,
        model_type="mt5",
        architecture="MT5ForConditionalGeneration",
        config_class=MT5Config,
        read_config=read_mt5_config,
        ideas=("T5 1.1 over a vocabulary of 101 languages",),
        grew_from="t5",
    ),
)
