"""What a vision tower is given equals what the Pillow processors of `transformers` give it, bit for bit."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from malmoi.core.errors import ConfigError, MediaError
from malmoi.media.image_keys import read_image_processor, write_image_processor
from malmoi.media.image_processor import Exact, ImageProcessor, ShortestEdge

SHAPES = [(48, 64), (64, 48), (32, 32), (20, 90), (7, 5), (1, 1), (33, 31)]
CASES = {
    "clip": (
        CLIPImageProcessorPil,
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
    ),
    "clip-odd": (
        CLIPImageProcessorPil,
        {"size": {"shortest_edge": 33}, "crop_size": {"height": 28, "width": 31}},
    ),
    "clip-of-2021": (CLIPImageProcessorPil, {"size": 32, "crop_size": 30}),
    "clip-uncropped": (CLIPImageProcessorPil, {"size": {"shortest_edge": 32}, "do_center_crop": False}),
    "clip-crop-larger-than-image": (CLIPImageProcessorPil, {"size": 20, "crop_size": [37, 24]}),
    "siglip": (SiglipImageProcessorPil, {"size": {"height": 32, "width": 24}}),
    "siglip-2": (SiglipImageProcessorPil, {"size": [32, 32], "resample": 2}),
    "siglip-other-numbers": (
        SiglipImageProcessorPil,
        {
            "size": [9, 9],
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.9, 0.8, 0.7],
            "rescale_factor": 1 / 127.5,
        },
    ),
    "llava": (LlavaImageProcessorPil, {"size": {"shortest_edge": 32}, "crop_size": 32}),
    "llava-padded": (
        LlavaImageProcessorPil,
        {"size": {"shortest_edge": 32}, "crop_size": 32, "do_pad": True},
    ),
    "llava-padded-squashed": (
        LlavaImageProcessorPil,
        {
            "size": {"height": 24, "width": 24},
            "do_center_crop": False,
            "do_pad": True,
            "image_mean": [0.5] * 3,
        },
    ),
    **{
        f"filter-{n}": (CLIPImageProcessorPil, {"size": 16, "crop_size": 16, "resample": n}) for n in range(6)
    },
}


def image_of(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def keys_of(reference: Any) -> dict[str, Any]:
    """What the reference writes into its file."""
    return json.loads(reference.to_json_string())


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_of_the_reference_to_the_last_bit(name: str) -> None:
    kind, options = CASES[name]
    reference = kind(**options)
    processor = read_image_processor(keys_of(reference), where=name)
    for shape in SHAPES:
        image = image_of(shape)
        (expected,) = reference(Image.fromarray(image), return_tensors="np").pixel_values
        found = processor(image)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert np.array_equal(found, expected), shape


@pytest.mark.parametrize("name", CASES)
def test_what_we_write_the_reference_reads_as_the_same(name: str) -> None:
    kind, options = CASES[name]
    processor = read_image_processor(keys_of(kind(**options)), where=name)
    written = write_image_processor(processor)
    assert read_image_processor(written, where=name) == processor
    kinds = {
        "CLIP": CLIPImageProcessorPil,
        "Siglip": SiglipImageProcessorPil,
        "Llava": LlavaImageProcessorPil,
    }
    theirs = kinds[written["image_processor_type"].removesuffix("ImageProcessor")](**written)
    image = image_of((48, 64))
    assert np.array_equal(
        theirs(Image.fromarray(image), return_tensors="np").pixel_values[0], processor(image)
    )


@pytest.mark.parametrize("kind", [CLIPImageProcessorPil, SiglipImageProcessorPil])
def test_a_default_file_comes_back_key_by_key(kind: Any) -> None:
    theirs = keys_of(kind())
    assert write_image_processor(read_image_processor(theirs, where="file")) == theirs


def test_a_processor_never_changes_the_image_it_is_given() -> None:
    processor = ImageProcessor(resize=Exact(height=8, width=8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    image = image_of((8, 8))
    before = image.copy()
    processor(image)[:] = 0
    assert np.array_equal(image, before)


def test_a_line_is_refused_before_it_is_blown_up() -> None:
    """1 x 4,000 pixels with a shorter side of 224 would be 224 x 896,000."""
    processor = read_image_processor({"image_processor_type": "CLIPImageProcessor"}, where="file")
    padded = replace(processor, is_padded_to_square=True)
    for shape in ((1, 4000), (4000, 1)):
        with pytest.raises(MediaError, match=r"pixels would become one of .*896,000.*Crop its longer side"):
            processor(image_of(shape))
        assert padded(image_of(shape)).shape == (3, 224, 224)
    with pytest.raises(MediaError, match="an image of 9,000 x 1 pixels would become one of 9,000 x 9,000"):
        padded(image_of((1, 9000)))
    assert processor(image_of((1, 200))).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": ShortestEdge(pixels=0)}, "a size of 0 pixels"),
        ({"resize": Exact(height=4, width=-2)}, "a size of -2 pixels"),
        ({"crop": (0, 4)}, "a size of 0 pixels"),
        (
            {"is_padded_to_square": True, "mean": (0.5, 1.5, 0.5)},
            r"mean=\(0.5, 1.5, 0.5\) is no colour to pad",
        ),
        ({"std": (0.5, 0.0, 0.5)}, r"std=\(0.5, 0.0, 0.5\) of an image processor divides by zero"),
    ],
    ids=str,
)
def test_numbers_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"resize": ShortestEdge(pixels=4), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(ConfigError, match=message):
        ImageProcessor(**good | changes)
