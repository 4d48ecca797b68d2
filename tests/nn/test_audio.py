"""Sound becomes states as Whisper hears it: stem, stored sinusoids, and silence that is kept out of the blocks."""

import pytest
import torch
from torch import Tensor
from transformers.models.whisper.modeling_whisper import sinusoids

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models.audio_tower import AudioTowerConfig, build_tower
from malmoi.nn.audio import AudioEncoder, AudioStem, StoredSinusoids
from malmoi.nn.context import Context
from malmoi.nn.norm import LayerNorm


@pytest.fixture
@torch.no_grad()
def encoder() -> AudioEncoder:
    config = AudioTowerConfig(
        num_mels=5, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, max_positions=10
    )
    encoder = build_tower(config, norm=LayerNorm(24))
    for parameter in encoder.parameters():
        parameter.add_(torch.empty_like(parameter).normal_(std=0.3))
    return encoder


def test_the_stored_sinusoids_are_those_of_whisper() -> None:
    """Up to 1,500 radians, of which float32 knows no more than four decimals."""
    torch.testing.assert_close(StoredSinusoids(1500, 384).table, sinusoids(1500, 384), rtol=0, atol=2e-4)


def test_sinusoids_are_no_business_of_an_optimizer() -> None:
    assert not StoredSinusoids(4, 8).table.requires_grad


def test_the_stem_hears_three_frames_and_then_three_of_those() -> None:
    """State t is made of the frames 2t - 2 to 2t + 2."""
    stem, audio = AudioStem(3, 4), torch.randn(1, 3, 20)
    before = stem(audio)
    audio[:, :, 9] += 1
    changed = (stem(audio) != before).any(-1)[0].nonzero().flatten()
    assert changed.tolist() == [4, 5]


@pytest.mark.parametrize("num_frames", [1, 2, 7, 19, 20])
@torch.no_grad()
def test_silence_behind_a_mask_is_not_attended(encoder: AudioEncoder, num_frames: int) -> None:
    """Equal to blocks that are given no more states than those of the sound."""
    audio = torch.randn(2, 5, 20)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0, num_frames:] = False
    out = encoder(audio, mask=mask)
    num_states = -(-num_frames // 2)
    context = Context.rows(1, num_states, specs=encoder.cache_specs())
    alone = encoder.hidden(encoder.stem(audio)[:1, :num_states], context)
    torch.testing.assert_close(out[:1, :num_states], alone, rtol=0, atol=1e-5)
    assert not out[0, num_states:].any()
    torch.testing.assert_close(out[1:], encoder(audio)[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("num_mels", "num_frames"), [(5, 18), (5, 22), (4, 20)])
def test_a_spectrogram_of_another_shape_is_refused(
    encoder: AudioEncoder, num_mels: int, num_frames: int
) -> None:
    message = f"has {num_mels} mel bands and {num_frames} frames, but this model hears 5 and 20"
    with pytest.raises(RequestError, match=message):
        encoder(torch.zeros(1, num_mels, num_frames))


def test_an_odd_width_has_no_sinusoids() -> None:
    with pytest.raises(ConfigError, match="hidden_size=15 is odd"):
        StoredSinusoids(4, 15)


def test_a_sound_without_sound_is_refused(encoder: AudioEncoder) -> None:
    with pytest.raises(RequestError, match="row 1 of the mask has no real token"):
        encoder(torch.zeros(2, 5, 20), mask=torch.tensor([[True], [False]]).expand(2, 20))


def test_a_spectrogram_is_rounded_to_the_precision_of_the_weights(encoder: AudioEncoder) -> None:
    audio: Tensor = torch.randn(1, 5, 20)
    assert encoder.to(torch.bfloat16)(audio).dtype == torch.bfloat16
