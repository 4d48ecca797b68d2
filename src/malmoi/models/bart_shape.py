"""BART's shape, its words in a `config.json`, and the names of its tensors, many of which Whisper took over.

Both have an encoder and a decoder; the tower that hears (`audio_tower.py`) is such an encoder alone. Place in the flow:
BART's Config inherits `BartShape`; the `rules`, `read_config` and `write_config` of the pages put the rest together.
Read next: `bart.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class BartShape:
    """Both sides, which may differ in depth, heads and feed-forward width."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_decoder_layers: int
    num_decoder_heads: int
    decoder_intermediate_size: int
    max_positions: int = 1024


ENCODER_KEYS = {
    "d_model": "hidden_size",
    "encoder_layers": "num_layers",
    "encoder_attention_heads": "num_heads",
    "encoder_ffn_dim": "intermediate_size",
}
KEYS = ENCODER_KEYS | {
    "vocab_size": "vocab_size",
    "decoder_layers": "num_decoder_layers",
    "decoder_attention_heads": "num_decoder_heads",
    "decoder_ffn_dim": "decoder_intermediate_size",
    "max_position_embeddings": "max_positions",
}
# Dropout and initialisation.
TRAINING_KEYS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "init_std")
# What the first files of transformers told BART from its siblings (mBART, Blenderbot, Marian) with.
SIBLING_KEYS: Mapping[str, object] = {
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "do_blenderbot_90_layernorm": False,
    "extra_pos_embeddings": 2,
    "normalize_before": False,
    "normalize_embedding": True,
    "static_position_embeddings": False,
}


def read_shape(reader: ConfigReader, **defaults: Any) -> dict[str, Any]:
    """The fields of `BartShape`, or where the file says nothing, the `defaults`."""
    for key, allowed in SIBLING_KEYS.items():
        reader.require(key, allowed)
    # A classifier's business, and how to generate.
    reader.disregard("classifier_dropout", "classif_dropout", "force_bos_token_to_be_generated")
    reader.disregard("kobart_version")
    shape = read_keys(reader, KEYS, BartShape, **defaults)
    require_both_sides(reader, num_layers=shape["num_layers"])
    return shape


def require_both_sides(reader: ConfigReader, *, num_layers: int) -> None:
    """Refuse what is no encoder of `num_layers` with a decoder that is tied to its own embedding."""
    reader.require("activation_function", "gelu")
    reader.require("is_encoder_decoder", True)
    reader.require("tie_word_embeddings", True)
    reader.require("num_hidden_layers", num_layers)  # another name of the same number
    reader.disregard(*TRAINING_KEYS, "decoder_layerdrop")


def write_shape(config: BartShape) -> dict[str, Any]:
    """`read_shape` run backwards."""
    return {
        **write_keys(config, KEYS),
        "is_encoder_decoder": True,
        "pad_token_id": None,
        "decoder_start_token_id": None,
        "forced_eos_token_id": None,
    }


ENCODER_NAMES = {
    "layers.{}.self_attn_layer_norm.{}": "blocks.{}.attention.norm.{}",
    "layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.mixer.q.{}",
    "layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.mixer.k.{}",
    "layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.mixer.v.{}",
    "layers.{}.self_attn.out_proj.{}": "blocks.{}.attention.mixer.out.{}",
    "layers.{}.final_layer_norm.{}": "blocks.{}.ffn.norm.{}",
    "layers.{}.fc1.{}": "blocks.{}.ffn.mixer.up.{}",
    "layers.{}.fc2.{}": "blocks.{}.ffn.mixer.down.{}",
}
DECODER_NAMES = ENCODER_NAMES | {
    "embed_tokens.weight": "embedding.tokens.weight",
    "embed_positions.weight": "embedding.positions.table.weight",
    "layers.{}.encoder_attn_layer_norm.{}": "blocks.{}.cross.norm.{}",
    "layers.{}.encoder_attn.q_proj.{}": "blocks.{}.cross.mixer.q.{}",
    "layers.{}.encoder_attn.k_proj.{}": "blocks.{}.cross.mixer.k.{}",
    "layers.{}.encoder_attn.v_proj.{}": "blocks.{}.cross.mixer.v.{}",
    "layers.{}.encoder_attn.out_proj.{}": "blocks.{}.cross.mixer.out.{}",
}


def both_sides(encoder: Mapping[str, str], outer: Mapping[str, str]) -> Rules:
    """The rules of an encoder, whose names are `encoder`, of the decoder beside it, and of what is `outer`."""
    reads, writes = Rules(renames(encoder)), Rules(renames(DECODER_NAMES))
    return (
        reads.under("model.encoder.", "encoder.")
        + writes.under("model.decoder.", "decoder.")
        + Rules(renames(outer))
    )
