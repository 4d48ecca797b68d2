"""What BERT and RoBERTa share: their shape, as a `config.json` says it, and the names of the body.

Place in the flow: a page's Config inherits `BertShape`, its `read_config` and `write_config` call `read_shape` and
`write_shape`, its `rules` put `body_names` and the head's together. Read next: `bert_heads.py`, `bert.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models.bert_heads import Head, Problem, read_head, write_head
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import REQUIRED, ConfigReader


@dataclass(frozen=True, kw_only=True)
class BertShape:
    """What every model of this line has, and its head.

    `labels` and `problem_type` are those of the heads "sequence" and "token". Raises ConfigError for one without the
    other.
    """

    vocab_size: int = 30_522
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12
    max_positions: int = 512
    num_types: int = 2
    norm_eps: float = 1e-12
    head: Head = "pooler"
    labels: tuple[str, ...] = ()
    problem_type: Problem = "single_label_classification"

    def __post_init__(self) -> None:
        if (self.head in ("sequence", "token")) != bool(self.labels):
            raise ConfigError(
                f"head={self.head!r} with labels={self.labels}. Labels are for the heads 'sequence' and 'token', "
                "which need at least one."
            )

    @property
    def position_offset(self) -> int:
        """How many rows of the table of positions come before the first (RoBERTa)."""
        return 0


BODY_NAMES = {
    "embeddings.word_embeddings.weight": "embedding.tokens.weight",
    "embeddings.position_embeddings.weight": "embedding.positions.table.weight",
    "embeddings.token_type_embeddings.weight": "embedding.types.weight",
    "embeddings.LayerNorm.{}": "embedding.norm.{}",
    "encoder.layer.{}.attention.self.query.{}": "blocks.{}.attention.mixer.q.{}",
    "encoder.layer.{}.attention.self.key.{}": "blocks.{}.attention.mixer.k.{}",
    "encoder.layer.{}.attention.self.value.{}": "blocks.{}.attention.mixer.v.{}",
    "encoder.layer.{}.attention.output.dense.{}": "blocks.{}.attention.mixer.out.{}",
    "encoder.layer.{}.attention.output.LayerNorm.{}": "blocks.{}.attention.norm.{}",
    "encoder.layer.{}.intermediate.dense.{}": "blocks.{}.ffn.mixer.up.{}",
    "encoder.layer.{}.output.dense.{}": "blocks.{}.ffn.mixer.down.{}",
    "encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.ffn.norm.{}",
}


def body_names(config: BertShape, prefix: str) -> dict[str, str]:
    """The names of all but the head. They have a prefix where another head than the pooler stands beside them."""
    return {(prefix if config.head != "pooler" else "") + theirs: ours for theirs, ours in BODY_NAMES.items()}


KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "num_types",
    "layer_norm_eps": "norm_eps",
}


def read_shape(reader: ConfigReader, architectures: Mapping[str, Head]) -> dict[str, Any]:
    """The fields of `BertShape`; "architectures" decides the head."""
    reader.require("hidden_act", "gelu")
    reader.require("position_embedding_type", "absolute")
    reader.require("tie_word_embeddings", True)
    # Training's business, and an old name of use_cache.
    reader.disregard(
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "output_past"
    )
    return {
        **read_head(reader, architectures),
        **read_keys(reader, KEYS, BertShape, vocab_size=REQUIRED),
    }


def write_shape(config: BertShape, architectures: Mapping[str, Head]) -> dict[str, Any]:
    """`read_shape` run backwards."""
    return {
        **write_head(architectures, head=config.head, labels=config.labels, problem_type=config.problem_type),
        **write_keys(config, KEYS),
        "hidden_act": "gelu",
    }
