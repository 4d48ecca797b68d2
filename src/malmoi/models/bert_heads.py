"""What stands on a BERT: a head for a task, with its labels, as a `config.json` names them.

    pooler          BertModel                        a vector a text
    masked-token    BertForMaskedLM                  which token was there
    sequence        BertForSequenceClassification    a label a text
    token           BertForTokenClassification       a label a token

Place in the flow: `bert_shape.py` reads and writes the choice, a page's `build` and `rules` add the head to the body.
Read next: `nn/heads.py`, `bert.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import nn

from malmoi.core.errors import ConfigError
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.heads import MaskedTokenHead, Pooler, SequenceClassifier, TokenClassifier

Head = Literal["pooler", "masked-token", "sequence", "token"]
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


def build_head(head: Head, table: nn.Embedding, *, norm: nn.Module, num_labels: int) -> nn.Module:
    """The head on states as wide as the `table` of tokens. Masked tokens are told by its rows, after `norm`.

    >>> build_head("token", nn.Embedding(61, 8), norm=nn.LayerNorm(8), num_labels=3)
    TokenClassifier(
      (classifier): Linear(in_features=8, out_features=3, bias=True)
    )
    """
    width = table.embedding_dim
    match head:
        case "pooler":
            return Pooler(width)
        case "masked-token":
            return MaskedTokenHead(table, norm=norm, activation=F.gelu)
        case "sequence":
            return SequenceClassifier(Pooler(width), width, num_labels)
        case "token":
            return TokenClassifier(width, num_labels)


# Those of the other two have the family's own words in them.
HEAD_NAMES: dict[Head, dict[str, str]] = {
    "pooler": {"pooler.dense.{}": "head.dense.{}"},
    "token": {"classifier.{}": "head.classifier.{}"},
}


def read_head(reader: ConfigReader, architectures: Mapping[str, Head]) -> dict[str, Any]:
    """The head that "architectures" asks for, and its labels if it has some. Raises ConfigError for another one."""
    names = reader.take("architectures", list)
    if len(names) != 1 or names[0] not in architectures:
        raise ConfigError(
            f"{reader.where}: architectures={names!r} is not one of those that this family has: "
            f"{', '.join(architectures)}. Load the checkpoint as one of them, or name another."
        )
    head = architectures[names[0]]
    return {"head": head, **(_read_labels(reader) if head in ("sequence", "token") else {})}


def _read_labels(reader: ConfigReader) -> dict[str, Any]:
    """Names of the labels in order; where the file says nothing there are two, as in transformers."""
    numbers = range(reader.positive("num_labels", int, 2))
    names = reader.take("id2label", dict, {str(number): f"LABEL_{number}" for number in numbers})
    if sorted(names) != sorted(map(str, range(len(names)))):
        raise ConfigError(
            f"{reader.where}: id2label={names!r} does not name the labels 0, 1, 2, ... Correct it."
        )
    reader.require("num_labels", len(names))
    problem: Problem = "regression" if len(names) == 1 else "single_label_classification"
    reader.require("problem_type", *get_args(Problem))
    return {
        "labels": tuple(str(names[str(number)]) for number in range(len(names))),
        "problem_type": reader.take("problem_type", str, problem),
    }


def write_head(
    architectures: Mapping[str, Head], *, head: Head, labels: tuple[str, ...], problem_type: Problem
) -> dict[str, Any]:
    """`read_head` run backwards."""
    names = {"architectures": [next(name for name, its_head in architectures.items() if its_head == head)]}
    if not labels:
        return names
    return {
        **names,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": problem_type,
    }
