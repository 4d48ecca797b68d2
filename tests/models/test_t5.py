"""What is T5's alone: one bias a stack, its two versions, and the files of old checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from malmoi.core.config import to_mapping
from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.models import build_model, count_parameters, load_config, load_model, save_model
from malmoi.models.mt5 import MT5Config
from malmoi.models.t5 import T5Config, t5_small, t5_v1_1_base
from malmoi.nn.relative import RelativeBias

SMALL = {
    "model_type": "t5",
    "vocab_size": 61,
    "d_model": 24,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "d_kv": 6,
}


@pytest.mark.parametrize(
    ("preset", "count"),
    [(t5_small, 60_506_624), (t5_v1_1_base, 247_577_856)],  # those of the published checkpoints
)
def test_presets_have_the_parameters_of_the_checkpoints(preset: Callable[[], T5Config], count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(preset())) == count


def test_all_layers_of_a_stack_share_one_bias() -> None:
    model = build_model(small())
    biases = {module for module in model.modules() if isinstance(module, RelativeBias)}
    assert {bias.is_bidirectional for bias in biases} == {True, False}
    assert len(biases) == 2


def small(**changes: Any) -> T5Config:
    return T5Config(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_layers=2, num_decoder_layers=2, num_heads=4,
        head_dim=6, **changes,
    )  # fmt: skip


@torch.no_grad()
def test_an_old_file_with_every_copy_of_the_shared_matrix_loads(
    tmp_path: Path, randomise: Callable[[Any], Any]
) -> None:
    model = randomise(build_model(small()))
    save_model(model, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[unused] = torch.zeros(32, 4)  # in the files of the first T5
    save_file(tensors, file)
    loaded = load_model(tmp_path)
    assert count_parameters(loaded) == count_parameters(model)
    source, target = torch.randint(61, (2, 9)), torch.randint(61, (2, 5))
    assert torch.equal(
        loaded(source, decoder_tokens=target).logits, model(source, decoder_tokens=target).logits
    )


def test_a_copy_of_the_shared_matrix_may_be_there_but_not_differ(
    tmp_path: Path, randomise: Callable[[Any], Any]
) -> None:
    save_model(randomise(build_model(small())), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        save_file(tensors | {name: tensors["shared.weight"] + 1}, file)
        with pytest.raises(CheckpointError, match=r"are one.*two that differ"):
            load_model(tmp_path)
        save_file(tensors | {name: torch.ones(3)}, file)
        with pytest.raises(CheckpointError, match=name):
            load_model(tmp_path)


def test_no_mt5_scales_its_logits() -> None:
    with pytest.raises(ConfigError, match="scales_logits=True of an MT5Config"):
        MT5Config(**to_mapping(small()))


@torch.no_grad()
def test_a_head_of_its_own_goes_through_transformers_and_back(
    tmp_path: Path, randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    """transformers 5 writes down that the head is tied, whatever it is: the two matrices of the file decide."""
    ours = randomise(build_model(small(is_tied=False, scales_logits=False))).eval()
    save_model(ours, tmp_path / "ours")
    theirs: Any = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    source, target = torch.randint(61, (2, 9)), torch.randint(61, (2, 5))
    wanted = ours(source, decoder_tokens=target).logits
    assert_close(theirs(input_ids=source, decoder_input_ids=target).logits, wanted)
    theirs.save_pretrained(tmp_path / "theirs")
    assert load_config(tmp_path / "theirs").is_tied
    assert not load_model(tmp_path / "theirs").config.is_tied
    assert torch.equal(load_model(tmp_path / "theirs")(source, decoder_tokens=target).logits, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj='gated-silu' is not supported"),
        ({"feed_forward_proj": "relu", "is_gated_act": True}, "is_gated_act=True is not supported"),
        ({"dense_act_fn": "gelu"}, "dense_act_fn='gelu' is not supported"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder=False is not supported"),
        ({"relative_attention_max_distance": 4}, "num_buckets=32 with max_distance=4"),
        ({"num_heads": 0}, "num_heads=0 is not above 0"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | changes), "utf-8")
    with pytest.raises(ConfigError, match=message):
        build_model(load_config(tmp_path))
