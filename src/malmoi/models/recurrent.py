"""Recurrent language models: an Elman network, an LSTM or a GRU reads token by token (Mikolov et al. 2010; Zaremba
et al. 2014, arXiv:1409.2329).

What a sequence leaves behind is a state of a fixed size, not keys and values of every token: memory does not grow,
but all that a later token can know has to fit, and gradients pass through every step in between
(`runs/gradient_by_lag.py` draws what becomes of them). The format is our own, with the tensor names of `torch.nn.RNN`,
`LSTM` and `GRU`. Read `nn/cells.py` first; next: `transformer.py`, which does without the state.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.nn.cells import CellKind
from malmoi.nn.embedding import Embedding
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Layers of `cell` on top of each other, all `hidden_size` wide, the embedding too.

    A state has no end, so `max_positions` is a choice, not a limit: how far a generation goes if nothing stops it.
    """

    cell: CellKind
    vocab_size: int
    hidden_size: int
    num_layers: int
    max_positions: int = 4096
    is_tied: bool = False


def zaremba_large() -> RecurrentConfig:
    """The large LSTM for the Penn Treebank (arXiv:1409.2329, section 4.1): two layers of 1,500, 10,000 words.

    >>> zaremba_large().cell
    'lstm'
    """
    return RecurrentConfig(cell="lstm", vocab_size=10_000, hidden_size=1500, num_layers=2)


def build(config: RecurrentConfig) -> Decoder:
    """The network: no norms, no residual sums, a layer's states are the next one's inputs.

    >>> build(RecurrentConfig(cell="gru", vocab_size=64, hidden_size=8, num_layers=1)).blocks[0]
    Recurrent(
      (input): Linear(in_features=8, out_features=24, bias=True)
      (state): Linear(in_features=8, out_features=24, bias=True)
    )
    """
    embedding = Embedding(config.vocab_size, config.hidden_size)
    return Decoder(
        embedding=embedding,
        blocks=[Recurrent(config.hidden_size, kind=config.cell) for _ in range(config.num_layers)],
        head=output_head(embedding, is_tied=config.is_tied),
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
    )


def rules(config: RecurrentConfig) -> Rules:
    """PyTorch's names and ours."""
    return Rules(
        renames({
            "embedding.weight": "embedding.tokens.weight",
            "rnn.weight_ih_l{}": "blocks.{}.input.weight",
            "rnn.weight_hh_l{}": "blocks.{}.state.weight",
            "rnn.bias_ih_l{}": "blocks.{}.input.bias",
            "rnn.bias_hh_l{}": "blocks.{}.state.bias",
            "head.weight": "head.weight",
        })
    )  # fmt: skip


KEYS = {
    "cell": "cell",
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "max_position_embeddings": "max_positions",
    "tie_word_embeddings": "is_tied",
}


def read_config(reader: ConfigReader) -> RecurrentConfig:
    """A `config.json` that `write_config` wrote. Raises ConfigError on a cell that is unknown."""
    return RecurrentConfig(**read_keys(reader, KEYS, RecurrentConfig))


def write_config(config: RecurrentConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return write_keys(config, KEYS)


PRESETS = {"lstm-zaremba-large": zaremba_large}
FAMILIES = (
    Family(
        model_type="recurrent",
        architecture="RecurrentForCausalLM",
        config_class=RecurrentConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "a state of fixed size goes through the sequence, token by token",
            "gates (LSTM, GRU): the state is a sum that they keep open, so gradients reach far back",
        ),
    ),
)
