"""BERT and RoBERTa as they were published: their config files, their sizes, and what old checkpoints carry along."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig as Theirs
from transformers import BertForMaskedLM, BertForPreTraining

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.models import build_model, count_parameters, load_config, load_model, save_model
from malmoi.models.bert import BertConfig, bert_base, klue_bert_base
from malmoi.models.roberta import RobertaConfig, klue_roberta_base, roberta_base

SHAPE = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
}
BERT = SHAPE | {
    "architectures": ["BertForMaskedLM"],
    "gradient_checkpointing": False,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}
ROBERTA = SHAPE | {
    "architectures": ["RobertaForMaskedLM"],
    "bos_token_id": 0,
    "eos_token_id": 2,
    "gradient_checkpointing": False,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "roberta",
    "pad_token_id": 1,
    "tokenizer_class": "BertTokenizer",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": 32000,
}
XLM = {
    "architectures": ["XLMRobertaForMaskedLM"],
    "model_type": "xlm-roberta",
    "output_past": True,
    "position_embedding_type": "absolute",
    "tokenizer_class": None,
    "vocab_size": 250002,
}
POOLER_OF_THE_FIRST_RELEASE = {
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
SENTIMENT = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "부정", "1": "긍정"}}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    def write_and_read(config: dict[str, Any]) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        return load_config(tmp_path)

    return write_and_read


@pytest.mark.parametrize(
    ("published", "wanted"),
    [
        (BERT, BertConfig(head="masked-token")),
        (BERT | POOLER_OF_THE_FIRST_RELEASE | {"vocab_size": 119547}, {"vocab_size": 119547}),
        (BERT | SENTIMENT, {"labels": ("부정", "긍정"), "problem_type": "single_label_classification"}),
        (BERT | SENTIMENT | {"id2label": {"0": "LABEL_0"}}, {"problem_type": "regression"}),
        (BERT | SENTIMENT | {"id2label": {"1": "b", "0": "a"}}, {"labels": ("a", "b")}),
        (ROBERTA, klue_roberta_base()),
        (ROBERTA | {"vocab_size": 50265}, roberta_base()),
        (ROBERTA | XLM, {"vocab_size": 250002, "max_positions": 512, "head": "masked-token"}),
        (ROBERTA | {"architectures": ["RobertaModel"]}, {"head": "pooler", "position_offset": 2}),
    ],
)
def test_published_config_files_load(published: dict[str, Any], wanted: Any, read: Any) -> None:
    config = read(published)
    if isinstance(wanted, dict):
        assert {name: getattr(config, name) for name in wanted} == wanted
    else:
        assert config == wanted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BERT | {"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        (BERT | {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        (BERT | {"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        (BERT | {"pooler_type": "mean"}, "pooler_type='mean'"),
        (BERT | {"is_decoder": True}, "'is_decoder'"),
        (
            BERT | {"architectures": ["BertForQuestionAnswering"]},
            r"\['BertForQuestionAnswering'\] is not one",
        ),
        (BERT | {"architectures": None}, "'architectures' is missing"),
        (BERT | SENTIMENT | {"id2label": {"0": "a", "2": "b"}}, "does not name the labels 0, 1, 2"),
        (BERT | SENTIMENT | {"num_labels": 3}, "num_labels=3 is not supported here. Supported: 2"),
        (BERT | SENTIMENT | {"problem_type": "ranking"}, "problem_type='ranking' is not supported"),
        (ROBERTA | {"max_position_embeddings": 2}, "leaves no position after the 2 rows"),
    ],
)
def test_what_a_page_does_not_compute_is_refused(config: dict[str, Any], message: str, read: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config)


def test_labels_without_a_head_for_them_are_refused() -> None:
    with pytest.raises(ConfigError, match="Labels are for the heads"):
        BertConfig(labels=("a", "b"))


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (bert_base(), 110e6),  # arXiv:1810.04805, section 3
        (klue_bert_base(), 110e6),  # its shape is BERT base's
        (roberta_base(), 125e6),  # the README of its release, fairseq's examples/roberta
    ],
)
def test_presets_have_the_published_size(config: BertConfig | RobertaConfig, published: float) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(config)) == pytest.approx(published, rel=0.01)


@pytest.fixture
def old_checkpoint(tmp_path: Path, randomise: Any) -> Any:
    """The form of BERT's first releases: two objectives at once, and LayerNorm's old names."""
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    model = randomise(BertForPreTraining(Theirs(**small, num_attention_heads=4))).eval()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {
        "bert.embeddings.position_ids": torch.arange(512)[None],
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
    }
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / "model.safetensors")
    return model


@torch.no_grad()
def test_a_checkpoint_of_the_first_release_loads_without_what_is_of_no_use(
    old_checkpoint: Any, tmp_path: Path, assert_close: Any
) -> None:
    ours, tokens = load_model(tmp_path), torch.randint(61, (2, 12))
    assert_close(ours(tokens).logits, old_checkpoint(tokens).prediction_logits)
    save_model(ours, tmp_path / "ours")
    again = BertForMaskedLM.from_pretrained(tmp_path / "ours")
    assert_close(ours(tokens).logits, again(tokens).logits)


def test_what_is_of_use_is_not_left_out(old_checkpoint: Any, tmp_path: Path) -> None:
    """A pooler is left over beside a masked-token head; a classifier is not complete without it."""
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | SENTIMENT))
    with pytest.raises(CheckpointError, match="lacks the tensor 'classifier.bias' \\(and 1 more\\)"):
        load_model(tmp_path)


@torch.no_grad()
def test_segments_change_states_as_in_the_reference(
    tmp_path: Path, randomise: Any, assert_close: Any
) -> None:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    theirs = randomise(BertForMaskedLM(Theirs(**small, num_attention_heads=4))).eval()
    theirs.save_pretrained(tmp_path)
    tokens, types = torch.randint(61, (2, 12)), torch.tensor([[0] * 7 + [1] * 5, [0] * 12])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, 9:] = False
    ours = load_model(tmp_path)(tokens, mask=mask, token_types=types).logits
    assert_close(ours[mask], theirs(tokens, attention_mask=mask.long(), token_type_ids=types).logits[mask])
