"""What a model of any kind can be called with, made up: for rehearsals and measurements.

The kinds are `nn.stack`'s and those built on them: tokens for a decoder or an encoder, a source besides for an
encoder-decoder, an image or a sound where the model takes one. Read next: `rehearsal.py`.
"""

from itertools import count, islice

import torch
from torch import Tensor, nn

from malmoi.nn.audio import FRAMES_PER_STATE, AudioEncoder, AudioToText, SoundEncoder
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import EncoderDecoder, Model
from malmoi.nn.vision import ImageEncoder, PatchEmbedding, VisionTower


def example_inputs(model: Model, length: int, *, batch: int = 1) -> dict[str, Tensor]:
    """Arguments for `model(**inputs)`: `batch` rows of `length` tokens, one image or sound at the front of each.

    Ids are real ones on the CPU, counting up; pixels and spectrograms are zeros where the model is, in its precision.
    A source is as long as what is written; a prompt is longer than `length` if its image or sound is.

    >>> from malmoi.models import build_model, llama
    >>> model = build_model(llama.sized(1, vocab_size=9, max_positions=9))
    >>> example_inputs(model, 3)
    {'tokens': tensor([[0, 1, 2]])}
    """
    if isinstance(model, VisionTower):
        return {"images": image(model, batch)}
    num_ids = model.config.text.vocab_size if isinstance(model, Multimodal) else model.config.vocab_size
    inputs = {"tokens": (torch.arange(length) % num_ids).expand(batch, -1)}
    if isinstance(model, AudioToText):
        inputs["audio"] = sound(model.encoder, batch)
    elif isinstance(model, EncoderDecoder):
        inputs["decoder_tokens"] = inputs["tokens"]
    elif isinstance(model, Multimodal):
        places = [id_ for name, id_ in model.placeholders.items() for _ in range(num_features(model, name))]
        words = (n % num_ids for n in count() if n % num_ids not in model.placeholders.values())
        row = places + list(islice(words, max(1, length - len(places))))
        inputs = {"tokens": torch.tensor([row] * batch)}
        inputs |= {name: of_medium(encoder, batch) for name, encoder in model.encoders.items()}
    return inputs


def source_length(model: Model, length: int) -> int:
    """How many states there are of the source of such an example; 0 where the model reads none."""
    if isinstance(model, AudioToText):
        return model.encoder.max_positions
    return length if isinstance(model, EncoderDecoder) else 0


def of_medium(encoder: nn.Module, batch: int) -> Tensor:
    """What an encoder of a `Multimodal` takes: images or sounds."""
    if isinstance(encoder, ImageEncoder):
        return image(encoder.tower, batch)
    assert isinstance(encoder, SoundEncoder), (
        f"{type(encoder).__name__} takes something that has no example yet"
    )
    return sound(encoder.tower, batch)


def num_features(model: Multimodal, medium: str) -> int:
    """How many places one image or sound takes in a prompt."""
    with torch.no_grad():
        return len(model.encode(**{medium: of_medium(model.encoders[medium], 1)})[medium])


def image(tower: VisionTower, batch: int) -> Tensor:
    """Black squares of the size that the tower takes."""
    patches = tower.embedding
    assert isinstance(patches, PatchEmbedding), "a tower looks at patches"
    channels = patches.patches.in_features // patches.patch_size**2
    size = (batch, channels, patches.image_size, patches.image_size)
    return torch.zeros(size, dtype=tower.dtype, device=tower.device)


def sound(encoder: AudioEncoder, batch: int) -> Tensor:
    """Spectrograms of silence, as long as the encoder hears at a time."""
    size = (batch, encoder.stem.first.in_channels, FRAMES_PER_STATE * encoder.max_positions)
    return torch.zeros(size, dtype=encoder.dtype, device=encoder.device)
