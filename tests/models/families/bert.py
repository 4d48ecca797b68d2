from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import BertConfig as Theirs

from malmoi.models.bert import BertConfig

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 32,
}
OURS = {
    "bert": BertConfig(**SMALL),
    "bert, masked tokens": BertConfig(**SMALL, head="masked-token", num_types=1, norm_eps=1e-5),
    "bert, a label a text": BertConfig(**SMALL, head="sequence", labels=("부정", "긍정", "중립")),
    "bert, a label a token": BertConfig(**SMALL, head="token", labels=("O", "B-PS", "I-PS")),
}


def theirs(head: str, **changes: Any) -> Theirs:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    rest = {"num_attention_heads": 4, "max_position_embeddings": 32, "architectures": [f"Bert{head}"]}
    return Theirs(**(small | rest | {"pad_token_id": None} | changes))


THEIRS = {
    "no head": theirs("Model"),
    "masked tokens": theirs("ForMaskedLM"),
    "one type, another epsilon": theirs("ForMaskedLM", type_vocab_size=1, layer_norm_eps=0.1),
    "two labels": theirs("ForSequenceClassification"),
    "named labels": theirs("ForSequenceClassification", id2label={0: "부정", 1: "중립", 2: "긍정"}),
    "a score": theirs("ForSequenceClassification", num_labels=1),
    "several labels at once": theirs(
        "ForSequenceClassification", num_labels=3, problem_type="multi_label_classification"
    ),
    "a label a token": theirs("ForTokenClassification", num_labels=5),
    "values without effect": theirs("ForMaskedLM", hidden_dropout_prob=0.5, classifier_dropout=0.5),
}

WITHOUT_GRADIENT = {"*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"}


def call_reference(theirs: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    out = theirs(inputs["tokens"], attention_mask=inputs.get("mask"))
    tensor: Tensor = out.logits if hasattr(out, "logits") else out.pooler_output
    return tensor
