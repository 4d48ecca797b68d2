"""BART: a Transformer of 2017 that learned to repair damaged text (Lewis et al. 2019, arXiv:1910.13461).

The network is nearly the one of `transformer.py`: positions are learned, the embedding is normalised, GELU stands in
for ReLU, and attention has biases. What is new is what it learns from: a text comes in with spans masked and
sentences shuffled, and goes out whole (section 2.2; `data.denoise.infill_text`, `permute_sentences`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from malmoi.models.bart_shape import ENCODER_NAMES, BartShape, both_sides, read_shape, write_shape
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.block import PostNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder, EncoderDecoder, Stack
from malmoi.weights.rules import Reshape, Rules


@dataclass(frozen=True, kw_only=True)
class BartConfig(BartShape):
    """A BART. With `is_scaled`, embeddings are multiplied by the square root of their width, as in 2017."""

    is_scaled: bool = False


def bart_base() -> BartConfig:
    """6 layers on each side, 768 wide (arXiv:1910.13461, sections 2.1 and 4): 139 million parameters."""
    return BartConfig(
        vocab_size=50_265, hidden_size=768, num_layers=6, num_heads=12, intermediate_size=3072,
        num_decoder_layers=6, num_decoder_heads=12, decoder_intermediate_size=3072,
    )  # fmt: skip


def bart_large() -> BartConfig:
    """12 layers on each side, 1024 wide (arXiv:1910.13461, sections 2.1 and 5): 406 million parameters.

    >>> bart_large().num_decoder_layers
    12
    """
    return BartConfig(
        vocab_size=50_265, hidden_size=1024, num_layers=12, num_heads=16, intermediate_size=4096,
        num_decoder_layers=12, num_decoder_heads=16, decoder_intermediate_size=4096,
    )  # fmt: skip


def build(config: BartConfig) -> EncoderDecoder:
    """The network. Raises ConfigError if the heads of a side cannot share the width evenly.

    >>> with torch.device("meta"):
    ...     build(bart_base()).encoder.embedding.positions.table
    Embedding(1026, 768)
    """
    width = config.hidden_size
    embedding = partial(Embedding, config.vocab_size, width, scale=width**0.5 if config.is_scaled else 1.0)
    positions = partial(LearnedPositions, config.max_positions, width, offset=2)
    encoder_embedding = embedding(positions=positions(), norm=LayerNorm(width))
    decoder_embedding = embedding(positions=positions(), norm=LayerNorm(width))
    decoder_embedding.tokens.weight = encoder_embedding.tokens.weight
    blocks = partial(
        Blocks.of_2017,
        hidden_size=width,
        activation=F.gelu,
        residual=lambda mixer: PostNorm(mixer, LayerNorm(width)),
        biases={"bias": True, "out_bias": True},
    )
    encoder_blocks = blocks(num_heads=config.num_heads, intermediate_size=config.intermediate_size)
    decoder_blocks = blocks(
        num_heads=config.num_decoder_heads, intermediate_size=config.decoder_intermediate_size
    )
    head = output_head(encoder_embedding)
    # The reference's `final_logits_bias`: stored with the weights, and never trained.
    head.bias = nn.Parameter(torch.zeros(config.vocab_size), requires_grad=False)
    return EncoderDecoder(
        encoder=Stack(
            embedding=encoder_embedding,
            blocks=[encoder_blocks.encoder() for _ in range(config.num_layers)],
            max_positions=config.max_positions,
        ),
        decoder=Decoder(
            embedding=decoder_embedding,
            blocks=[decoder_blocks.decoder() for _ in range(config.num_decoder_layers)],
            head=head,
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        ),
    )


OUTER_NAMES = {
    "model.shared.weight": "encoder.embedding.tokens.weight",
    "model.encoder.embed_positions.weight": "encoder.embedding.positions.table.weight",
    "model.{}.layernorm_embedding.{}": "{}.embedding.norm.{}",
    "lm_head.weight": "decoder.head.weight",
}


def rules(config: BartConfig) -> Rules:
    """Hugging Face's names and ours; the head's bias is a row there."""
    size = config.vocab_size
    bias = Reshape("final_logits_bias", "decoder.head.bias", theirs_shape=(1, size), ours_shape=(size,))
    return both_sides(ENCODER_NAMES, OUTER_NAMES) + Rules([bias])


def read_config(reader: ConfigReader) -> BartConfig:
    """A `config.json` of transformers 4 or 5; what it leaves out is BART Large's.

    Raises ConfigError on a value that asks for another network.
    """
    shape = read_shape(reader, **vars(bart_large()))
    return BartConfig(**shape, is_scaled=reader.take("scale_embedding", bool, False))


def write_config(config: BartConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), "scale_embedding": config.is_scaled}


PRESETS = {"bart-base": bart_base, "bart-large": bart_large}
FAMILIES = (
    Family(
        model_type="bart",
        architecture="BartForConditionalGeneration",
        config_class=BartConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "denoising: it learns by giving damaged text back whole (text infilling, sentence permutation)",
            "learned positions in place of sines, and a LayerNorm over the embedding",
            "GELU in the feed-forward network",
        ),
        grew_from="transformer",
        ignored_tensors=("model.{}.version",),
        old_endings={"encoder.embed_tokens.weight": "shared.weight"},
        zero_if_absent=("final_logits_bias",),
        optional_prefix="model.",
    ),
)
