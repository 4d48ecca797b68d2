"""An omni model is each of its parts: seeing it is a LLaVA, hearing it is a Qwen2-Audio, and it does both at once."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import build_model
from malmoi.models.audio import Qwen2AudioConfig
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.clip import ClipConfig
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.omni import OmniConfig
from malmoi.nn.context import Context
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.splice import Splice

IMAGE, SOUND = 59, 60
SHAPE: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "num_layers": 2, "num_heads": 3}
OMNI = OmniConfig(
    vision=ClipConfig(**SHAPE, image_size=8, patch_size=4),
    audio=AudioTowerConfig(**SHAPE, num_mels=5, max_positions=8),
    text=LlamaConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        max_positions=64,
    ),
    image_token=IMAGE,
    audio_token=SOUND,
)
IMAGES, SOUNDS = slice(2, 6), slice(8, 12)  # where they stand in a prompt


@pytest.fixture
def model(randomise: Callable[[Any], Any]) -> Multimodal:
    built: Multimodal = randomise(build_model(OMNI)).eval()
    return built


def part(model: Multimodal, config: Any, medium: str) -> Multimodal:
    """The model of one medium with the weights of the model of both."""
    other: Multimodal = build_model(config).eval()
    others = {"images", "audio"} - {medium}
    prefixes = tuple(f"encoders.{name}." for name in others)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith(prefixes)})
    return other


def prompt(*, image: bool = False, sound: bool = False) -> Tensor:
    tokens = torch.randint(IMAGE, (2, 14))
    if image:
        tokens[:, IMAGES] = IMAGE
    if sound:
        tokens[:, SOUNDS] = SOUND
    return tokens


@torch.no_grad()
def test_seeing_it_is_the_llava_with_its_weights(model: Multimodal) -> None:
    llava = LlavaConfig(**{field.name: getattr(OMNI, field.name) for field in fields(LlavaConfig)})
    inputs = {"tokens": prompt(image=True), "images": torch.randn(2, 3, 8, 8)}
    assert torch.equal(model(**inputs).logits, part(model, llava, "images")(**inputs).logits)


@torch.no_grad()
def test_hearing_it_is_the_audio_model_with_its_weights(model: Multimodal) -> None:
    audio = Qwen2AudioConfig(audio=OMNI.audio, text=OMNI.text, audio_token=SOUND)
    inputs = {"tokens": prompt(sound=True), "audio": torch.randn(2, 5, 16)}
    assert torch.equal(model(**inputs).logits, part(model, audio, "audio")(**inputs).logits)


@pytest.mark.parametrize("is_image_first", [True, False])
@torch.no_grad()
def test_both_at_once_stand_each_in_their_own_place(model: Multimodal, is_image_first: bool) -> None:
    tokens, pixels, sounds = prompt(image=True, sound=True), torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16)
    at = {"images": IMAGES, "audio": SOUNDS}
    if not is_image_first:
        tokens = tokens.flip(1)
        at = {name: slice(14 - place.stop, 14 - place.start) for name, place in at.items()}
    features = model.encode(images=pixels, audio=sounds)
    x = torch.zeros(2, 14, 24)
    for name, place in at.items():
        x[:, place] = features[name].unflatten(0, (2, -1))
    both = (tokens == IMAGE) | (tokens == SOUND)
    context = Context.dense(tokens, specs=model.cache_specs())
    wanted = model(tokens, replace(context, splice=Splice(both, x[both]))).logits
    assert torch.equal(model(tokens, images=pixels, audio=sounds).logits, wanted)


def test_a_medium_that_does_not_fill_its_places_is_refused_whatever_the_other_does(model: Multimodal) -> None:
    tokens = prompt(image=True, sound=True)
    with pytest.raises(RequestError, match=r"has 8 placeholders \(id 60\), .* make 4 features"):
        model(tokens, images=torch.randn(2, 3, 8, 8), audio=torch.randn(1, 5, 16))


def test_two_media_have_two_placeholders() -> None:
    with pytest.raises(ConfigError, match="image_token and audio_token are both 60"):
        replace(OMNI, image_token=SOUND)
