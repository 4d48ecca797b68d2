"""BERT: an encoder whose tokens see both sides, learned by filling gaps (Devlin et al. 2018, arXiv:1810.04805).

Section 3: the input is `[CLS] a [SEP] b [SEP]`, and a token's embedding is the sum of itself, its position and which
of the two texts it is of; 15 % of the tokens are hidden and predicted ("masked LM"). What stands on top is all that
differs between tasks (`bert_heads.py`). Layers are those of 2017, norms after each sum. Read next: `roberta.py`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F

from malmoi.models.base import Family
from malmoi.models.bert_heads import HEAD_NAMES, Head, build_head
from malmoi.models.bert_shape import BertShape, body_names, read_shape, write_shape
from malmoi.models.huggingface import ConfigReader
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.block import PostNorm
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Encoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class BertConfig(BertShape):
    """A BERT."""


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


def build(config: BertShape) -> Encoder:
    """The network. Raises ConfigError if the heads cannot share the width evenly.

    >>> build(BertConfig(num_layers=1, head="token", labels=("O", "B-PS", "I-PS"))).head
    TokenClassifier(
      (classifier): Linear(in_features=768, out_features=3, bias=True)
    )
    """
    width = config.hidden_size
    norm = partial(LayerNorm, width, eps=config.norm_eps)
    blocks = Blocks.of_2017(
        hidden_size=width,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        activation=F.gelu,
        residual=lambda mixer: PostNorm(mixer, norm()),
        biases={"bias": True, "out_bias": True},
    )
    embedding = Embedding(
        config.vocab_size,
        width,
        positions=LearnedPositions(config.max_positions, width, offset=config.position_offset),
        num_types=config.num_types,
        norm=norm(),
    )
    return Encoder(
        embedding=embedding,
        blocks=[blocks.encoder() for _ in range(config.num_layers)],
        max_positions=config.max_positions,
        head=build_head(config.head, embedding.tokens, norm=norm(), num_labels=len(config.labels)),
    )


NAMES: dict[Head, dict[str, str]] = HEAD_NAMES | {
    "masked-token": {
        "cls.predictions.transform.dense.{}": "head.dense.{}",
        "cls.predictions.transform.LayerNorm.{}": "head.norm.{}",
        "cls.predictions.bias": "head.decoder.bias",
        "cls.predictions.decoder.weight": "head.decoder.weight",
    },
    "sequence": {"bert.pooler.dense.{}": "head.pooler.dense.{}", "classifier.{}": "head.classifier.{}"},
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
    return Rules(renames(body_names(config, "bert.") | NAMES[config.head]))


def read_config(reader: ConfigReader) -> BertConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("pooler_type", "first_token_transform")
    # Left by the first release of the multilingual model; they describe what every BERT has.
    reader.disregard("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    reader.disregard("pooler_size_per_head")
    return BertConfig(**read_shape(reader, ARCHITECTURES))


def write_config(config: BertConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return write_shape(config, ARCHITECTURES)


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
