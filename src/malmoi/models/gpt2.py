"""GPT-2: learned positions, LayerNorm before each sublayer, GELU (Radford et al. 2019, section 2.3).

Its blocks are those of 2017's decoder with no source to look at, the norms moved. Its checkpoints keep matrices as
[in, out], and q, k and v side by side in one (`conv1d.py`). Read `transformer.py` first; next: `llama.py`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.conv1d import conv1d, fused_conv1d
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.attention import head_width
from malmoi.nn.block import PreNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.mlp import gelu_tanh
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rename, Rules


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """A GPT-2's shape; heads are `hidden_size / num_heads` wide.

    `is_scaled=False` leaves 1 / sqrt(head_dim) out of scores; `scales_by_layer` divides those of layer i by i + 1.
    """

    vocab_size: int = 50_257
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12
    max_positions: int = 1024
    norm_eps: float = 1e-5
    is_tied: bool = True
    is_scaled: bool = True
    scales_by_layer: bool = False


def gpt2_small() -> GPT2Config:
    """The model of 124M parameters (Radford et al. 2019, table 2, where it is called 117M).

    >>> gpt2_small().num_layers
    12
    """
    return GPT2Config()


def build(config: GPT2Config) -> Decoder:
    """The network. Raises ConfigError if the heads cannot share the width evenly.

    >>> build(GPT2Config(vocab_size=64, hidden_size=16, num_layers=2, num_heads=4)).embedding.positions.table
    Embedding(1024, 16)
    """
    width = config.hidden_size
    norm = partial(LayerNorm, width, eps=config.norm_eps)
    blocks = partial(
        Blocks.of_2017,
        hidden_size=width,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        activation=gelu_tanh,
        residual=lambda mixer: PreNorm(norm(), mixer),
        biases={"bias": True, "out_bias": True},
    )
    scale = head_width(width, config.num_heads) ** -0.5 if config.is_scaled else 1.0
    scales = [scale / (layer + 1) if config.scales_by_layer else scale for layer in range(config.num_layers)]
    embedding = Embedding(config.vocab_size, width, positions=LearnedPositions(config.max_positions, width))
    return Decoder(
        embedding=embedding,
        blocks=[blocks(scale=scale).decoder_alone() for scale in scales],
        norm=norm(),
        head=output_head(embedding, is_tied=config.is_tied),
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
    )


def rules(config: GPT2Config) -> Rules:
    """Hugging Face's names and ours: its matrices lie [in, out], and one holds q, k and v side by side."""
    qkv = [f"blocks.{{}}.attention.mixer.{name}" for name in "qkv"]
    return Rules(
        [
            Rename("transformer.wte.weight", "embedding.tokens.weight"),
            Rename("transformer.wpe.weight", "embedding.positions.table.weight"),
            Rename("transformer.h.{}.ln_1.{}", "blocks.{}.attention.norm.{}"),
            *fused_conv1d("transformer.h.{}.attn.c_attn", *qkv, size=config.hidden_size),
            *conv1d("transformer.h.{}.attn.c_proj", "blocks.{}.attention.mixer.out"),
            Rename("transformer.h.{}.ln_2.{}", "blocks.{}.ffn.norm.{}"),
            *conv1d("transformer.h.{}.mlp.c_fc", "blocks.{}.ffn.mixer.up"),
            *conv1d("transformer.h.{}.mlp.c_proj", "blocks.{}.ffn.mixer.down"),
            Rename("transformer.ln_f.{}", "norm.{}"),
            Rename("lm_head.weight", "head.weight"),
        ]
    )


KEYS = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_positions": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "is_tied",
    "scale_attn_weights": "is_scaled",
    "scale_attn_by_inverse_layer_idx": "scales_by_layer",  # Mistral's GPT-2 replications
}


def read_config(reader: ConfigReader) -> GPT2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("activation_function", "gelu_new", "gelu_pytorch_tanh")  # two names of one function
    # Dropout is training's business, the next is only the order of a rounding, the rest are heads for other tasks.
    reader.disregard("resid_pdrop", "embd_pdrop", "attn_pdrop", "reorder_and_upcast_attn")
    reader.disregard("summary_activation", "summary_first_dropout", "summary_proj_to_labels")
    reader.disregard("summary_type", "summary_use_proj")
    width = reader.positive("n_embd", int, 768)
    config = GPT2Config(**read_keys(reader, KEYS, GPT2Config, intermediate_size=4 * width))
    reader.require("n_ctx", config.max_positions)
    return config


def write_config(config: GPT2Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_keys(config, KEYS), "activation_function": "gelu_new"}


PRESETS = {"gpt2": gpt2_small}
FAMILIES = (
    Family(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        config_class=GPT2Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "a decoder alone: every token predicts the next",
            "learned positions",
            "LayerNorm before each sublayer, and once at the end",
            "GELU between the two layers of the feed-forward network",
        ),
        grew_from="transformer",
        ignored_tensors=("transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"),
        optional_prefix="transformer.",
    ),
)
