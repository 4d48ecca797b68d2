"""BERT: an encoder whose tokens see both sides, learned by filling gaps (Devlin et al. 2018, arXiv:1810.04805).

Section 3: the input is `[CLS] a [SEP] b [SEP]`, and a token's embedding is the sum of itself, its position and which
of the two texts it is of; 15 % of the tokens are hidden and predicted ("masked LM"). What stands on top, `heads`, is
all that differs between tasks. Layers are those of 2017, norms after each sum. Read next: `roberta.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import nn

from malmoi.core.errors import ConfigError
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, head_width
from malmoi.nn.block import Block, PostNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.heads import MaskedTokenHead, Pooler, SequenceClassifier, TokenClassifier
from malmoi.nn.mlp import MLP
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Encoder
from malmoi.weights.rules import Rules, renames

Head = Literal["pooler", "masked-token", "sequence", "token"]
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """A BERT's shape and its head. `labels` and `problem_type` are those of the heads "sequence" and "token"."""

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


def bert_base() -> BertConfig:
    """BERT base, 110M parameters (arXiv:1810.04805, section 3), with the uncased vocabulary of its release."""
    return BertConfig()


def klue_bert_base() -> BertConfig:
    """The Korean BERT base of KLUE: 32,000 tokens (Park et al. 2021, arXiv:2105.09680)."""
    return BertConfig(vocab_size=32_000)


def sized(depth: int, *, vocab_size: int, max_positions: int) -> BertConfig:
    """One dial: `depth` layers, everything else in proportion, as `llama.sized`. It fills gaps.

    >>> sized(4, vocab_size=8192, max_positions=256).hidden_size
    128
    """
    num_heads = max(1, depth // 2)
    hidden_size = num_heads * 64
    return BertConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=4 * hidden_size, num_layers=depth,
        num_heads=num_heads, max_positions=max_positions, head="masked-token",
    )  # fmt: skip


def build(config: BertConfig) -> Encoder:
    """The network. Raises ConfigError if the heads cannot share the width evenly.

    >>> build(BertConfig(num_layers=1, head="token", labels=("O", "B-PS", "I-PS"))).head
    TokenClassifier(
      (classifier): Linear(in_features=768, out_features=3, bias=True)
    )
    """
    norm = partial(LayerNorm, config.hidden_size, eps=config.norm_eps)

    def block() -> Block:
        attention = Attention(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_heads,
            head_dim=head_width(config.hidden_size, config.num_heads),
            rule=AttentionRule(is_causal=False),
            rope=None,
            bias=True,
            out_bias=True,
        )
        mlp = MLP(config.hidden_size, config.intermediate_size, activation=F.gelu, bias=True)
        return Block(attention=PostNorm(attention, norm()), ffn=PostNorm(mlp, norm()))

    embedding = Embedding(
        config.vocab_size,
        config.hidden_size,
        positions=LearnedPositions(config.max_positions, config.hidden_size, offset=config.position_offset),
        num_types=config.num_types,
        norm=norm(),
    )
    return Encoder(
        embedding=embedding,
        blocks=[block() for _ in range(config.num_layers)],
        max_positions=config.max_positions,
        head=_head(config, embedding.tokens, norm()),
    )


def _head(config: BertConfig, table: nn.Embedding, norm: LayerNorm) -> nn.Module:
    size, num_labels = config.hidden_size, len(config.labels)
    match config.head:
        case "pooler":
            return Pooler(size)
        case "masked-token":
            return MaskedTokenHead(table, norm=norm, activation=F.gelu)
        case "sequence":
            return SequenceClassifier(Pooler(size), size, num_labels)
        case "token":
            return TokenClassifier(size, num_labels)


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
HEAD_NAMES: dict[Head, dict[str, str]] = {
    "pooler": {"pooler.dense.{}": "head.dense.{}"},
    "masked-token": {
        "cls.predictions.transform.dense.{}": "head.dense.{}",
        "cls.predictions.transform.LayerNorm.{}": "head.norm.{}",
        "cls.predictions.bias": "head.decoder.bias",
        "cls.predictions.decoder.weight": "head.decoder.weight",
    },
    "sequence": {"bert.pooler.dense.{}": "head.pooler.dense.{}", "classifier.{}": "head.classifier.{}"},
    "token": {"classifier.{}": "head.classifier.{}"},
}
ARCHITECTURES: dict[str, Head] = {
    "BertModel": "pooler",
    "BertForMaskedLM": "masked-token",
    "BertForPreTraining": "masked-token",  # and next-sentence prediction, which is left out
    "BertForSequenceClassification": "sequence",
    "BertForTokenClassification": "token",
}


def rules(config: BertConfig) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(body_names(config, "bert.") | HEAD_NAMES[config.head]))


def body_names(config: BertConfig, prefix: str) -> dict[str, str]:
    """The names of all but the head. They have a prefix where another head than the pooler stands beside them."""
    return {(prefix if config.head != "pooler" else "") + theirs: ours for theirs, ours in BODY_NAMES.items()}


def read_config(reader: ConfigReader) -> BertConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("pooler_type", "first_token_transform")
    # Left by the first release of the multilingual model; they describe what every BERT has.
    reader.disregard("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    reader.disregard("pooler_size_per_head")
    return BertConfig(**read_shape(reader, ARCHITECTURES))


def read_shape(reader: ConfigReader, architectures: Mapping[str, Head]) -> dict[str, Any]:
    """The fields of `BertConfig`; "architectures" decides the head."""
    reader.require("hidden_act", "gelu")
    reader.require("position_embedding_type", "absolute")
    reader.require("tie_word_embeddings", True)
    # Training's business, and an old name of use_cache.
    reader.disregard(
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "output_past"
    )
    names = reader.take("architectures", list)
    if len(names) != 1 or names[0] not in architectures:
        raise ConfigError(
            f"{reader.where}: architectures={names!r} is not one of those that this family has: "
            f"{', '.join(architectures)}. Load the checkpoint as one of them, or name another."
        )
    head = architectures[names[0]]
    return {
        "vocab_size": reader.positive("vocab_size", int),
        "hidden_size": reader.positive("hidden_size", int, 768),
        "intermediate_size": reader.positive("intermediate_size", int, 3072),
        "num_layers": reader.positive("num_hidden_layers", int, 12),
        "num_heads": reader.positive("num_attention_heads", int, 12),
        "max_positions": reader.positive("max_position_embeddings", int, 512),
        "num_types": reader.positive("type_vocab_size", int, 2),
        "norm_eps": reader.positive("layer_norm_eps", float, 1e-12),
        "head": head,
        **(_read_labels(reader) if head in ("sequence", "token") else {}),
    }


def _read_labels(reader: ConfigReader) -> dict[str, Any]:
    """Names of the labels in order; where the file says nothing there are two, as in transformers."""
    numbers = range(reader.positive("num_labels", int, 2))
    names = reader.take("id2label", dict, {str(number): f"LABEL_{number}" for number in numbers})
    if sorted(names) != sorted(map(str, range(len(names)))):
        raise ConfigError(
            f"{reader.where}: id2label={names!r} does not name the labels 0, 1, 2, ... Correct it."
        )
    problem: Problem = "regression" if len(names) == 1 else "single_label_classification"
    reader.require("problem_type", *get_args(Problem))
    return {
        "labels": tuple(str(names[str(number)]) for number in range(len(names))),
        "problem_type": reader.take("problem_type", str, problem),
    }


def write_config(config: BertConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return write_shape(config, ARCHITECTURES)


def write_shape(config: BertConfig, architectures: Mapping[str, Head]) -> dict[str, Any]:
    """`read_shape` run backwards."""
    labels = {str(number): label for number, label in enumerate(config.labels)}
    task = {
        "id2label": labels,
        "label2id": {label: int(number) for number, label in labels.items()},
        "problem_type": config.problem_type,
    }
    return {
        "architectures": [next(name for name, head in architectures.items() if head == config.head)],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
        **(task if labels else {}),
    }


PRESETS = {"bert-base": bert_base, "klue-bert-base": klue_bert_base}
FAMILIES = (
    Family(
        model_type="bert",
        architecture="BertForMaskedLM",
        config_class=BertConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "an encoder alone: every token sees every other",
            "masked tokens are what it learns from",
            "learned positions, and a vector for which of two texts a token is of",
            "one body, and a small head a task",
        ),
        grew_from="transformer",
        ignored_tensors=(
            "bert.embeddings.position_ids",
            "embeddings.position_ids",
            "bert.pooler.dense.{}",
            "cls.seq_relationship.{}",
            "cls.predictions.decoder.bias",
        ),
        old_endings={".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"},
    ),
)
