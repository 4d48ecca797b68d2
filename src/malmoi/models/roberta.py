"""RoBERTa: BERT trained on, with less (Liu et al. 2019, arXiv:1907.11692).

Section 4: no next-sentence prediction, hence one type of text and no pooler that was trained; masks are drawn anew
each time a text is read. The table of positions begins after the padding token's id, a habit of its code. XLM-RoBERTa
(Conneau et al. 2019, arXiv:1911.02116) is the same network over a hundred languages. Read `bert.py` first.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import bert
from malmoi.models.base import Family
from malmoi.models.bert_heads import HEAD_NAMES, Head
from malmoi.models.bert_shape import BertShape, body_names, read_shape, write_shape
from malmoi.models.huggingface import ConfigReader
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(BertShape):
    """A RoBERTa: positions are counted from `pad_id + 1` on."""

    num_types: int = 1
    norm_eps: float = 1e-5
    pad_id: int = 1

    @property
    def position_offset(self) -> int:
        return self.pad_id + 1


@dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(RobertaConfig):
    """The same under another name."""


def roberta_base() -> RobertaConfig:
    """RoBERTa base: BERT base's shape (arXiv:1907.11692, section 4) and GPT-2's vocabulary with some tokens more."""
    return RobertaConfig(vocab_size=50_265, head="masked-token")


def klue_roberta_base() -> RobertaConfig:
    """The Korean RoBERTa base of KLUE (Park et al. 2021, arXiv:2105.09680).

    >>> klue_roberta_base().position_offset
    2
    """
    return RobertaConfig(vocab_size=32_000, head="masked-token")


NAMES: dict[Head, dict[str, str]] = HEAD_NAMES | {
    "masked-token": {
        "lm_head.dense.{}": "head.dense.{}",
        "lm_head.layer_norm.{}": "head.norm.{}",
        "lm_head.bias": "head.decoder.bias",
        "lm_head.decoder.weight": "head.decoder.weight",
    },
    "sequence": {
        "classifier.dense.{}": "head.pooler.dense.{}",
        "classifier.out_proj.{}": "head.classifier.{}",
    },
}


def rules(config: RobertaConfig) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(body_names(config, "roberta.") | NAMES[config.head]))


def _family(
    model_type: str, name: str, config_class: type[RobertaConfig], idea: str, parent: str
) -> Family[Any]:
    architectures: dict[str, Head] = {
        f"{name}Model": "pooler",
        f"{name}ForMaskedLM": "masked-token",
        f"{name}ForSequenceClassification": "sequence",
        f"{name}ForTokenClassification": "token",
    }
    return Family(
        model_type=model_type,
        architecture=f"{name}ForMaskedLM",
        config_class=config_class,
        build=bert.build,
        rules=rules,
        read_config=partial(_read_config, architectures=architectures, config_class=config_class),
        write_config=partial(_write_config, architectures=architectures),
        ideas=(idea,),
        grew_from=parent,
        ignored_tensors=(
            "roberta.embeddings.position_ids",
            "embeddings.position_ids",
            "roberta.pooler.dense.{}",
            "lm_head.decoder.bias",
        ),
    )


def _read_config(
    reader: ConfigReader, *, architectures: dict[str, Head], config_class: type[RobertaConfig]
) -> RobertaConfig:
    shape = read_shape(reader, architectures)
    pad_id = reader.take("pad_token_id", int, 1)
    if shape["max_positions"] <= pad_id + 1:
        raise ConfigError(
            f"{reader.where}: max_position_embeddings={shape['max_positions']} leaves no position after the "
            f"{pad_id + 1} rows up to pad_token_id={pad_id}. Correct one of them."
        )
    return config_class(**shape | {"max_positions": shape["max_positions"] - pad_id - 1, "pad_id": pad_id})


def _write_config(config: RobertaConfig, *, architectures: dict[str, Head]) -> dict[str, Any]:
    num_rows = config.max_positions + config.position_offset
    shape = write_shape(config, architectures)
    return shape | {"max_position_embeddings": num_rows, "pad_token_id": config.pad_id}


PRESETS = {"roberta-base": roberta_base, "klue-roberta-base": klue_roberta_base}
FAMILIES = (
    _family(
        "roberta", "Roberta", RobertaConfig, "no next sentence, one type of text; masks drawn anew", "bert"
    ),
    _family("xlm-roberta", "XLMRoberta", XLMRobertaConfig, "a vocabulary of a hundred languages", "roberta"),
)
