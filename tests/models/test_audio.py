"""Qwen2-Audio hears what transformers hears: padded sounds, padded prompts, a prompt that goes on after the sound."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2AudioConfig as Theirs
from transformers import Qwen2AudioForConditionalGeneration

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import audio, build_model, count_parameters, load_model
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.audio import num_sound_features
from malmoi.nn.context import Context
from malmoi.nn.multimodal import Multimodal

AUDIO_TOKEN = 60
TOWER = {
    "num_mel_bins": 5, "d_model": 16, "encoder_ffn_dim": 24, "encoder_layers": 2, "encoder_attention_heads": 4,
    "max_source_positions": 10,
}  # fmt: skip
TEXT = {
    "model_type": "qwen2", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
CONFIG = {
    "model_type": "qwen2_audio",
    "audio_config": TOWER,
    "text_config": TEXT,
    "audio_token_index": AUDIO_TOKEN,
}


@pytest.fixture
def both(tmp_path: Path, randomise: Any) -> tuple[Multimodal, Any]:
    """Our model and the reference's, with the same weights."""
    config = Theirs(audio_config=TOWER, text_config=TEXT, audio_token_index=AUDIO_TOKEN)
    theirs = randomise(Qwen2AudioForConditionalGeneration(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, Multimodal)
    return ours, theirs


def sounds(*num_frames: int) -> tuple[Tensor, Tensor]:
    """Noise, and where it counts as sound."""
    mask = torch.arange(20) < torch.tensor(num_frames)[:, None]
    return torch.randn(len(num_frames), 5, 20), mask


def prompt(*num_features: int, length: int = 12) -> Tensor:
    """Rows of random tokens with so many placeholders from their third token on."""
    tokens = torch.randint(AUDIO_TOKEN, (len(num_features), length))
    for row, count in zip(tokens, num_features, strict=True):
        row[2 : 2 + count] = AUDIO_TOKEN
    return tokens


def reference(
    theirs: Any, tokens: Tensor, audio: Tensor, audio_mask: Tensor, mask: Tensor | None = None
) -> Tensor:
    mask = torch.ones_like(tokens) if mask is None else mask.long()
    logits: Tensor = theirs(
        tokens, input_features=audio, feature_attention_mask=audio_mask.long(), attention_mask=mask
    ).logits
    return logits


@torch.no_grad()
def test_sounds_of_every_length_equal_the_reference(both: Any, assert_close: Any) -> None:
    ours, theirs = both
    lengths = range(7, 21)
    spectrograms, mask = sounds(*lengths)
    tokens = prompt(*[num_sound_features(n) for n in lengths])
    out = ours(tokens, audio=spectrograms, audio_mask=mask).logits
    assert_close(out, reference(theirs, tokens, spectrograms, mask))


@torch.no_grad()
def test_no_mask_means_that_all_is_sound(both: Any, assert_close: Any) -> None:
    ours, theirs = both
    spectrograms, mask = sounds(20, 20)
    tokens = prompt(5, 5)
    assert_close(ours(tokens, audio=spectrograms).logits, reference(theirs, tokens, spectrograms, mask))


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_prompts_with_sounds_equal_the_reference(both: Any, side: str, assert_close: Any) -> None:
    ours, theirs = both
    spectrograms, audio_mask = sounds(20, 8)
    tokens = prompt(5, 2)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    padding = slice(0, 2) if side == "left" else slice(-3, None)
    mask[1, padding] = False
    out = ours(tokens, audio=spectrograms, audio_mask=audio_mask, mask=mask).logits
    assert_close(out[mask], reference(theirs, tokens, spectrograms, audio_mask, mask)[mask])


@torch.no_grad()
def test_greedy_generation_after_a_sound_equals_the_reference(both: Any) -> None:
    ours, theirs = both
    spectrograms, mask = sounds(20, 20)
    tokens = prompt(5, 5)
    wanted = theirs.generate(
        tokens, input_features=spectrograms, feature_attention_mask=mask.long(), max_new_tokens=12,
        attention_mask=torch.ones_like(tokens), do_sample=False, pad_token_id=0,
    )  # fmt: skip
    splice, caches, row = ours.splice(tokens, audio=spectrograms, audio_mask=mask), ours.new_caches(), tokens
    for _ in range(12):
        num_cached = row.shape[1] - tokens.shape[1]
        context = Context.dense(tokens, specs=ours.cache_specs(), caches=caches, num_cached=num_cached)
        hidden = ours.hidden(tokens, replace(context, splice=splice))
        splice, tokens = None, ours.head(hidden[:, -1:]).argmax(-1)
        row = torch.cat([row, tokens], dim=1)
    assert torch.equal(row, wanted)


def test_a_sound_takes_as_many_places_as_the_reference_says(both: Any) -> None:
    _, theirs = both
    lengths = torch.arange(1, 3001)
    _, wanted = theirs.model.audio_tower._get_feat_extract_output_lengths(lengths)
    assert [num_sound_features(n) for n in lengths.tolist()] == wanted.tolist()


def test_a_prompt_with_other_places_than_the_sound_fills_is_refused(both: Any) -> None:
    ours, _ = both
    spectrograms, mask = sounds(20)
    with pytest.raises(
        RequestError, match=r"4 placeholders \(id 60\), but its images or sounds make 5 features"
    ):
        ours(prompt(4), audio=spectrograms, audio_mask=mask)


def test_sounds_of_several_lengths_lie_within_their_rows(both: Any) -> None:
    ours, _ = both
    spectrograms, mask = sounds(20, 8)
    with pytest.raises(RequestError, match="the 5 features of image or sound 0 find 2 placeholders"):
        ours(prompt(2, 5), audio=spectrograms, audio_mask=mask)


def test_silence_within_a_sound_is_refused(both: Any) -> None:
    ours, _ = both
    spectrograms, mask = sounds(20)
    mask[0, :4] = False
    with pytest.raises(RequestError, match="masked before its end"):
        ours(prompt(4), audio=spectrograms, audio_mask=mask)


def read(config: dict[str, Any]) -> audio.Qwen2AudioConfig:
    reader = ConfigReader(config, where="config.json")
    reader.take("model_type", str)
    found = audio.read_config(reader)
    reader.finish()
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_config": TOWER | {"scale_embedding": True}}, "scale_embedding=True is not supported"),
        ({"audio_config": TOWER | {"num_window": 3}}, "audio_config: the key 'num_window'"),
        ({"audio_config": {}}, "audio_config: the key 'd_model' is missing"),
        ({"text_config": TEXT | {"rope_thetta": 1.0}}, "text_config: the key 'rope_thetta'"),
        ({"text_config": TEXT | {"model_type": "rwkv"}}, "model_type='rwkv' is not a family that Malmoi has"),
        ({"vocab_size": 62}, "vocab_size=62 is not supported here. Supported: 61"),
        ({"projector_hidden_act": "gelu"}, "'projector_hidden_act'"),
    ],
    ids=str,
)
def test_what_we_do_not_compute_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    assert read(CONFIG).audio_token == AUDIO_TOKEN
    with pytest.raises(ConfigError, match=message):
        read(CONFIG | change)


def test_a_text_whose_head_is_tied_is_refused() -> None:
    text = replace(read(CONFIG).text, is_tied=True)
    with pytest.raises(ConfigError, match="is_tied=True of the text"):
        replace(read(CONFIG), text=text)


def test_the_published_model_has_as_many_parameters() -> None:
    """As the tensors of Qwen/Qwen2-Audio-7B on the hub hold; its report says 8.2B (arXiv:2407.10759, section 2)."""
    with torch.device("meta"):
        assert count_parameters(build_model(audio.qwen2_audio_7b())) == 8_397_094_912
