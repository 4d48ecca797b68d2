from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import RobertaConfig, XLMRobertaConfig

from malmoi.models import roberta

# The reference counts no position for a padding token, wherever it stands: here the laws never draw its id.
PAD_ID = 62
SMALL: dict[str, Any] = {
    "vocab_size": 63,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 32,
    "pad_id": PAD_ID,
}
OURS = {
    "roberta": roberta.RobertaConfig(**SMALL),
    "roberta, masked tokens": roberta.RobertaConfig(**SMALL, head="masked-token"),
    "roberta, a label a text": roberta.RobertaConfig(**SMALL, head="sequence", labels=("부정", "긍정")),
    "roberta, a label a token": roberta.XLMRobertaConfig(**SMALL, head="token", labels=("O", "B", "I")),
}


def theirs(head: str, **changes: Any) -> RobertaConfig:
    return RobertaConfig(**_small(f"Roberta{head}"), **changes)


def _small(architecture: str) -> dict[str, Any]:
    return {
        "vocab_size": 63,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32 + PAD_ID + 1,
        "pad_token_id": PAD_ID,
        "bos_token_id": None,
        "eos_token_id": None,
        "architectures": [architecture],
    }


THEIRS = {
    "no head": theirs("Model", type_vocab_size=1),
    "masked tokens": theirs("ForMaskedLM", type_vocab_size=1, layer_norm_eps=0.1),
    "a label a text": theirs("ForSequenceClassification", num_labels=3),
    "a label a token": theirs("ForTokenClassification", num_labels=5),
    "xlm-roberta": XLMRobertaConfig(**_small("XLMRobertaForMaskedLM"), type_vocab_size=1),
}

WITHOUT_GRADIENT = {"*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"}


def call_reference(theirs: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    out = theirs(inputs["tokens"], attention_mask=inputs.get("mask"))
    tensor: Tensor = out.logits if hasattr(out, "logits") else out.pooler_output
    return tensor
