"""The Transformer of 2017: attention instead of recurrence (Vaswani et al. 2017, arXiv:1706.03762).

An encoder reads the source, every token seeing every other; a decoder writes, each token seeing those before it
(section 3.1) and all of the source (section 3.2.3). It was published as code, not as a checkpoint, so its files are
ours alone. Read `transformer_blocks.py` first; next: `gpt2.py`, the decoder alone; `bart.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import REQUIRED, ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.block import PostNorm
from malmoi.nn.embedding import Embedding, SinusoidalPositions
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder, EncoderDecoder, Stack
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A Transformer's shape; as many layers on both sides, heads `hidden_size / num_heads` wide.

    `max_positions` is what callers respect: sines have no end, and the paper names none.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_positions: int = 1024


def transformer_base() -> TransformerConfig:
    """The base model (arXiv:1706.03762, table 3), with the 37,000 tokens of section 5.1.

    That makes 63 million parameters, where the table, which does not say what it counts, has 65.

    >>> transformer_base().num_layers
    6
    """
    return TransformerConfig(
        vocab_size=37_000, hidden_size=512, intermediate_size=2048, num_layers=6, num_heads=8
    )


def transformer_big() -> TransformerConfig:
    """The big model (arXiv:1706.03762, table 3): 214 million parameters with 37,000 tokens; the table has 213."""
    return TransformerConfig(
        vocab_size=37_000, hidden_size=1024, intermediate_size=4096, num_layers=6, num_heads=16
    )


def build(config: TransformerConfig) -> EncoderDecoder:
    """The network, with one matrix for both embeddings and the head. Raises ConfigError if heads do not fit.

    >>> small = TransformerConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=4)
    >>> [name for name, _ in build(small).decoder.blocks[0].named_children()]
    ['attention', 'cross', 'ffn']
    """
    width, layers = config.hidden_size, range(config.num_layers)
    # As an embedding the matrix is scaled (section 3.4), so that it weighs as much as the positions do.
    embedding = Embedding(config.vocab_size, width, scale=width**0.5, positions=SinusoidalPositions(width))
    blocks = Blocks.of_2017(
        hidden_size=width,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        activation=F.relu,
        residual=lambda mixer: PostNorm(mixer, LayerNorm(width)),
    )
    return EncoderDecoder(
        encoder=Stack(
            embedding=embedding,
            blocks=[blocks.encoder() for _ in layers],
            max_positions=config.max_positions,
        ),
        decoder=Decoder(
            embedding=embedding,
            blocks=[blocks.decoder() for _ in layers],
            head=output_head(embedding),
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        ),
    )


def rules(config: TransformerConfig) -> Rules:
    """Our own names on both sides."""
    names = (
        "{}.embedding.tokens.weight",
        "{}.blocks.{}.{}.mixer.{}.{}",
        "{}.blocks.{}.{}.norm.{}",
        "decoder.head.weight",
    )
    return Rules(renames({name: name for name in names}))


KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "max_position_embeddings": "max_positions",
}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A `config.json` of ours. Raises ConfigError on a key or value that is not of this network."""
    reader.require("is_encoder_decoder", True)
    return TransformerConfig(**read_keys(reader, KEYS, TransformerConfig, max_positions=REQUIRED))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_keys(config, KEYS), "is_encoder_decoder": True}


PRESETS = {"transformer-base": transformer_base, "transformer-big": transformer_big}
FAMILIES = (
    Family(
        model_type="transformer",
        architecture="Transformer",
        config_class=TransformerConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "attention instead of recurrence: all positions at once",
            "cross-attention: the decoder looks at all that the encoder made of the source",
            "sinusoidal positions, added to the embedding: order without recurrence",
            "LayerNorm after each sublayer's residual sum",
            "one matrix embeds source and target and is the head",
        ),
        grew_from="recurrent",
    ),
)
