"""What T5 and mT5 share: their shape, its words in a `config.json`, and the names of their tensors.

Place in the flow: a page's Config inherits `T5Shape`, its `read_config` and `write_config` call `read_shape` and
`write_shape`, its `rules` are these. Read next: `t5.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class T5Shape:
    """What every model of this line has; `head_dim` is free of `hidden_size / num_heads`.

    `max_positions` is the length that it was trained with; distances have no end. `is_gated` is version 1.1's
    feed-forward network.
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


S = TypeVar("S", bound=T5Shape)
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


def read_shape(reader: ConfigReader, *, feed_forward: str) -> dict[str, Any]:
    """The fields of `T5Shape`; `feed_forward` is the network that a family takes where its file says nothing."""
    reader.require("is_encoder_decoder", True)
    reader.require("feed_forward_proj", "relu", "gated-gelu")
    is_gated = reader.take("feed_forward_proj", str, feed_forward) == "gated-gelu"
    reader.require("is_gated_act", is_gated)  # transformers writes down what it made of the key above
    reader.require("dense_act_fn", "gelu_new" if is_gated else "relu")
    # Training's business, and a classifier's.
    reader.disregard("dropout_rate", "initializer_factor", "classifier_dropout")
    depth = reader.positive("num_layers", int)
    return {**read_keys(reader, KEYS, T5Shape, num_decoder_layers=depth), "is_gated": is_gated}


def write_shape(config: T5Shape) -> dict[str, Any]:
    """`read_shape` run backwards."""
    return {
        **write_keys(config, KEYS),
        "feed_forward_proj": "gated-gelu" if config.is_gated else "relu",
        "is_encoder_decoder": True,
        "pad_token_id": None,
    }


def settle_tie(config: S, tensors: Mapping[str, Tensor]) -> S:
    """`config` with a head of its own, if the file has one: transformers 5 says of every T5 that its head is tied."""
    shared, head = tensors.get("shared.weight"), tensors.get("lm_head.weight")
    if not config.is_tied or shared is None or head is None:
        return config
    return replace(config, is_tied=torch.equal(shared, head))


def rules(config: T5Shape) -> Rules:
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
