"""BART: a Transformer of 2017 that learned to repair damaged text (Lewis et al. 2019, arXiv:1910.13461).

The network is nearly the one of `transformer.py`: positions are learned, the embedding is normalised, GELU stands in
for ReLU, and attention has biases. What is new is what it learns from: a text comes in with spans masked and
sentences shuffled, and goes out whole (section 2.2; `data.denoise.infill_text`, `permute_sentences`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.transformer import Blocks
from malmoi.nn.block import PostNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder, EncoderDecoder, Stack
from malmoi.weights.rules import Rule, Rules, Value, renames


@dataclass(frozen=True, kw_only=True)
class BartConfig:
    """A BART's shape; the two sides may differ in depth, heads and feed-forward width."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_decoder_layers: int
    num_decoder_heads: int
    decoder_intermediate_size: int
    max_positions: int = 1024
    is_scaled: bool = False
    """Whether embeddings are multiplied by the square root of their width, as in 2017."""


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
    encoder_blocks = _blocks(width, config.num_heads, config.intermediate_size)
    decoder_blocks = _blocks(width, config.num_decoder_heads, config.decoder_intermediate_size)
    encoder_embedding, decoder_embedding = _embedding(config), _embedding(config)
    decoder_embedding.tokens.weight = encoder_embedding.tokens.weight
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


def _blocks(hidden_size: int, num_heads: int, intermediate_size: int) -> Blocks:
    return Blocks(
        hidden_size=hidden_size,
        num_heads=num_heads,
        intermediate_size=intermediate_size,
        activation=F.gelu,
        residual=lambda mixer: PostNorm(mixer, LayerNorm(hidden_size)),
        biases={"bias": True, "out_bias": True},
    )


def _embedding(config: BartConfig) -> Embedding:
    return Embedding(
        config.vocab_size,
        config.hidden_size,
        scale=config.hidden_size**0.5 if config.is_scaled else 1.0,
        positions=LearnedPositions(config.max_positions, config.hidden_size, offset=2),
        norm=LayerNorm(config.hidden_size),
    )


def rules(config: BartConfig) -> Rules:
    """Hugging Face's names and ours: attention `k_proj` is `k`, the three norms are those of their sublayers."""
    names = {
        "model.shared.weight": "encoder.embedding.tokens.weight",
        "model.decoder.embed_tokens.weight": "decoder.embedding.tokens.weight",
        "model.{}.embed_positions.weight": "{}.embedding.positions.table.weight",
        "model.{}.layernorm_embedding.{}": "{}.embedding.norm.{}",
        "lm_head.weight": "decoder.head.weight",
    }
    layer, block = "model.{}.layers.{}.", "{}.blocks.{}."
    for theirs, ours in (("self_attn", "attention"), ("encoder_attn", "cross")):
        names[f"{layer}{theirs}_layer_norm.{{}}"] = f"{block}{ours}.norm.{{}}"
        names |= {f"{layer}{theirs}.{x}_proj.{{}}": f"{block}{ours}.mixer.{x}.{{}}" for x in ("q", "k", "v")}
        names[f"{layer}{theirs}.out_proj.{{}}"] = f"{block}{ours}.mixer.out.{{}}"
    names |= {
        layer + "fc1.{}": block + "ffn.mixer.up.{}",
        layer + "fc2.{}": block + "ffn.mixer.down.{}",
        layer + "final_layer_norm.{}": block + "ffn.norm.{}",
    }
    as_row = Rule(("final_logits_bias",), ("decoder.head.bias",), _flat, _row)
    return Rules([*renames(names), as_row])


def _flat(values: Sequence[Value]) -> Sequence[Value]:
    return [value.flatten() for value in values if isinstance(value, Tensor)]


def _row(values: Sequence[Value]) -> Sequence[Value]:
    return [value[None] for value in values if isinstance(value, Tensor)]


KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "encoder_layers": "num_layers",
    "encoder_attention_heads": "num_heads",
    "encoder_ffn_dim": "intermediate_size",
    "decoder_layers": "num_decoder_layers",
    "decoder_attention_heads": "num_decoder_heads",
    "decoder_ffn_dim": "decoder_intermediate_size",
    "max_position_embeddings": "max_positions",
    "scale_embedding": "is_scaled",
}


def read_config(reader: ConfigReader) -> BartConfig:
    """A `config.json` of transformers 4 or 5; what it leaves out is BART Large's.

    Raises ConfigError on a value that asks for another network.
    """
    for key, allowed in _SIBLINGS.items():
        reader.require(key, allowed)
    # Dropout and initialisation are training's business, the rest is a classifier's or how to generate.
    reader.disregard(
        "dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "classif_dropout"
    )
    reader.disregard("encoder_layerdrop", "decoder_layerdrop", "init_std", "force_bos_token_to_be_generated")
    reader.disregard("kobart_version")
    config = BartConfig(**read_keys(reader, KEYS, BartConfig, **vars(bart_large())))
    reader.require("num_hidden_layers", config.num_layers)  # another name of the same number
    return config


def write_config(config: BartConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_keys(config, KEYS),
        "is_encoder_decoder": True,
        "pad_token_id": None,
        "decoder_start_token_id": None,
        "forced_eos_token_id": None,
    }


# What the first files of transformers told BART from its siblings (mBART, Blenderbot, Marian) with.
_SIBLINGS: dict[str, object] = {
    "activation_function": "gelu",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "do_blenderbot_90_layernorm": False,
    "extra_pos_embeddings": 2,
    "is_encoder_decoder": True,
    "normalize_before": False,
    "normalize_embedding": True,
    "static_position_embeddings": False,
    "tie_word_embeddings": True,
}
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
