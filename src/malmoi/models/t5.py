"""T5: every task is text to text, and positions are distances (Raffel et al. 2020, arXiv:1910.10683).

Section 2.1: a norm without mean and bias before each sublayer, no biases anywhere, and a learned number for each head
and bucket of distances, added to the scores and shared by all layers of a stack (`nn.relative`); scores are not
divided by the square root of the head's width. It learns by span corruption (section 3.3.4;
`data.denoise.corrupt_spans`). Version 1.1 has a gated network and a head of its own. Read next: `mt5.py`.

The reference keeps the last matrix of each feed-forward network in fp32 when it loads fp16; here all weights have the
precision that is asked for. bf16 has fp32's range and needs no such care.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.t5_shape import T5Shape, read_shape, rules, settle_tie, write_shape
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.block import PreNorm
from malmoi.nn.embedding import Embedding
from malmoi.nn.mlp import MLP, GatedMLP, gelu_tanh
from malmoi.nn.norm import RMSNorm
from malmoi.nn.relative import RelativeBias
from malmoi.nn.stack import Decoder, EncoderDecoder, Stack


@dataclass(frozen=True, kw_only=True)
class T5Config(T5Shape):
    """A T5. With a tied head, version 1.0 scales the last states down (`scales_logits`)."""

    scales_logits: bool = True


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
    score_bias = partial(
        RelativeBias,
        num_heads=config.num_heads,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
    )
    plain, gated = partial(MLP, activation=F.relu, bias=False), partial(GatedMLP, activation=gelu_tanh)
    mlp: Callable[..., nn.Module] = gated if config.is_gated else plain
    blocks = Blocks(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        mlp=partial(mlp, config.hidden_size, config.intermediate_size),
        residual=lambda mixer: PreNorm(norm(), mixer),
        scale=1.0,
        score_bias=score_bias(is_bidirectional=True),
    )
    decoder_blocks = replace(blocks, score_bias=score_bias(is_bidirectional=False))
    embedding = Embedding(config.vocab_size, config.hidden_size)
    last_norm = ScaledRMSNorm if config.scales_logits else RMSNorm
    return EncoderDecoder(
        encoder=Stack(
            embedding=embedding,
            blocks=[blocks.encoder() for _ in range(config.num_layers)],
            norm=norm(),
            max_positions=config.max_positions,
        ),
        decoder=Decoder(
            embedding=embedding,
            blocks=[decoder_blocks.decoder() for _ in range(config.num_decoder_layers)],
            norm=last_norm(config.hidden_size, eps=config.norm_eps),
            head=output_head(embedding, is_tied=config.is_tied),
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        ),
    )


def read_config(reader: ConfigReader) -> T5Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    shape = read_shape(reader, feed_forward="relu")
    scales_logits = reader.take("scale_decoder_outputs", bool, shape["is_tied"])
    return T5Config(**shape, scales_logits=scales_logits)


def write_config(config: T5Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), "scale_decoder_outputs": config.scales_logits}


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
FAMILIES = (T5,)
