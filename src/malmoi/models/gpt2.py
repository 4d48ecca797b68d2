"""GPT-2: learned positions, LayerNorm before each sublayer, GELU (Radford et al. 2019, section 2.3).

Its checkpoints keep matrices as [in, out], and queries, keys and values side by side in one: `rules` says how
they become ours. Read `llama.py` first; what differs here is the embedding, the norms, the biases and the MLP.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, head_width
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.mlp import MLP, gelu_tanh
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rename, Rules, Split, Transpose


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """A GPT-2's shape; heads are `hidden_size / num_heads` wide.

    `scales_by_layer` divides the scores of layer i by i + 1 as well (Mistral's GPT-2 replications,
    `scale_attn_by_inverse_layer_idx`); `is_scaled=False` leaves 1 / sqrt(head_dim) out.
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

    >>> build(GPT2Config(vocab_size=64, hidden_size=16, num_layers=2, num_heads=4)).embedding.positions
    LearnedPositions(
      (table): Embedding(1024, 16)
    )
    """
    norm = partial(LayerNorm, config.hidden_size, eps=config.norm_eps)
    head_dim = head_width(config.hidden_size, config.num_heads)

    def block(layer: int) -> Block:
        scale = head_dim**-0.5 if config.is_scaled else 1.0
        attention = Attention(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_heads,
            head_dim=head_dim,
            rule=AttentionRule(scale=scale / (layer + 1) if config.scales_by_layer else scale),
            rope=None,
            bias=True,
            out_bias=True,
        )
        mlp = MLP(config.hidden_size, config.intermediate_size, activation=gelu_tanh, bias=True)
        return Block(attention=PreNorm(norm(), attention), ffn=PreNorm(norm(), mlp))

    positions = LearnedPositions(config.max_positions, config.hidden_size)
    embedding = Embedding(config.vocab_size, config.hidden_size, positions=positions)
    return Decoder(
        embedding=embedding,
        blocks=[block(layer) for layer in range(config.num_layers)],
        norm=norm(),
        head=output_head(embedding, is_tied=config.is_tied),
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
    )


def rules(config: GPT2Config) -> Rules:
    """Hugging Face's names and ours: its matrices lie [in, out], and one holds q, k and v side by side."""
    theirs, ours = "transformer.h.{}.", "blocks.{}."
    qkv = [ours + f"attention.mixer.{name}." for name in "qkv"]
    sizes = [config.hidden_size] * 3
    fused = theirs + "attn.c_attn."
    return Rules(
        [
            Rename("transformer.wte.weight", "embedding.tokens.weight"),
            Rename("transformer.wpe.weight", "embedding.positions.table.weight"),
            Rename(theirs + "ln_1.{}", ours + "attention.norm.{}"),
            Transpose(fused + "weight")
            >> Split(fused + "weight", [name + "weight" for name in qkv], dim=0, sizes=sizes),
            Split(fused + "bias", [name + "bias" for name in qkv], dim=0, sizes=sizes),
            Transpose(theirs + "attn.c_proj.weight", ours + "attention.mixer.out.weight"),
            Rename(theirs + "attn.c_proj.bias", ours + "attention.mixer.out.bias"),
            Rename(theirs + "ln_2.{}", ours + "ffn.norm.{}"),
            Transpose(theirs + "mlp.c_fc.weight", ours + "ffn.mixer.up.weight"),
            Rename(theirs + "mlp.c_fc.bias", ours + "ffn.mixer.up.bias"),
            Transpose(theirs + "mlp.c_proj.weight", ours + "ffn.mixer.down.weight"),
            Rename(theirs + "mlp.c_proj.bias", ours + "ffn.mixer.down.bias"),
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
    "scale_attn_by_inverse_layer_idx": "scales_by_layer",
}


def read_config(reader: ConfigReader) -> GPT2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("activation_function", "gelu_new", "gelu_pytorch_tanh")  # two names of one function
    # Dropout is training's business, the next is only the order of a rounding, the rest are heads for other tasks.
    reader.disregard("resid_pdrop", "embd_pdrop", "attn_pdrop", "reorder_and_upcast_attn")
    reader.disregard("summary_activation", "summary_first_dropout", "summary_proj_to_labels")
    reader.disregard("summary_type", "summary_use_proj")
    config = GPT2Config(
        **read_keys(reader, KEYS, GPT2Config, intermediate_size=4 * reader.positive("n_embd", int, 768))
    )
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
