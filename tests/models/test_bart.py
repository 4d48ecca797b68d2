"""What is BART's alone: files without the bias of the logits, and configurations of its siblings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.models import build_model, count_parameters, load_config, load_model
from malmoi.models.bart import BartConfig, bart_base, bart_large

SMALL = {
    "vocab_size": 61, "d_model": 24, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "millions"),
    [(bart_base, 140), (bart_large, 400)],  # the table of models in fairseq's examples/bart
)
def test_presets_are_as_large_as_published(preset: Callable[[], BartConfig], millions: int) -> None:
    with torch.device("meta"):
        count = count_parameters(build_model(preset()))
    assert abs(count / 1e6 - millions) / millions < 0.02


@torch.no_grad()
def test_a_file_of_the_bare_model_is_one_without_a_bias_of_the_logits(
    tmp_path: Path, randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    """As `facebook/bart-large` is published: names without "model.", and no `final_logits_bias`."""
    theirs = randomise(transformers.BartModel(transformers.BartConfig(**SMALL))).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    source, target = torch.randint(61, (2, 9)), torch.randint(61, (2, 5))
    states = theirs(input_ids=source, decoder_input_ids=target).last_hidden_state
    assert_close(ours(source, decoder_tokens=target).logits, states @ theirs.shared.weight.T)


@pytest.mark.parametrize("prefix", ["", "model."], ids=["bare", "whole"])
def test_a_copy_of_the_shared_matrix_may_be_there_but_not_differ(
    prefix: str, tmp_path: Path, randomise: Callable[[Any], Any]
) -> None:
    kind = transformers.BartForConditionalGeneration if prefix else transformers.BartModel
    randomise(kind(transformers.BartConfig(**SMALL))).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors, name = load_file(file), f"{prefix}encoder.embed_tokens.weight"
    shared = tensors[f"{prefix}shared.weight"]
    save_file(tensors | {name: shared.clone()}, file)
    assert torch.equal(load_model(tmp_path).encoder.embedding.tokens.weight, shared)
    save_file(tensors | {name: shared + 1}, file)
    with pytest.raises(CheckpointError, match=rf"{name}.* are one in this family.*two that differ"):
        load_model(tmp_path)


@torch.no_grad()
def test_a_bias_of_the_logits_is_added(
    tmp_path: Path, randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    theirs: Any = randomise(
        transformers.BartForConditionalGeneration(transformers.BartConfig(**SMALL))
    ).eval()
    theirs.final_logits_bias.normal_()
    theirs.save_pretrained(tmp_path)
    source, target = torch.randint(61, (2, 9)), torch.randint(61, (2, 5))
    wanted = theirs(input_ids=source, decoder_input_ids=target).logits
    assert_close(load_model(tmp_path)(source, decoder_tokens=target).logits, wanted)


@pytest.mark.parametrize(
    "sibling",
    [
        {"activation_function": "relu"},
        {"add_bias_logits": True},
        {"add_final_layer_norm": True},
        {"extra_pos_embeddings": 0},
        {"is_encoder_decoder": False},
        {"normalize_before": True},
        {"normalize_embedding": False},
        {"static_position_embeddings": True},
        {"tie_word_embeddings": False},
        {"num_hidden_layers": 3},
        {"d_model": 25},
    ],
    ids=str,
)
def test_a_configuration_of_another_network_is_refused_by_name(
    sibling: dict[str, object], tmp_path: Path
) -> None:
    config = {"model_type": "bart", "is_encoder_decoder": True, **SMALL, **sibling}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    name = "hidden_size" if "d_model" in sibling else next(iter(sibling))
    with pytest.raises(ConfigError, match=name):
        build_model(load_config(tmp_path))
