"""A processor's file is read whole or refused: published ones load, and what is unknown is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoFeatureExtractor, WhisperFeatureExtractor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.media import (
    ImageProcessor,
    SoundProcessor,
    load_image_processor,
    load_sound_processor,
    save_processors,
)
from malmoi.media.image_keys import read_image_processor
from malmoi.media.image_processor import Exact, ShortestEdge
from malmoi.media.sound_keys import read_sound_processor, write_sound_processor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_OF_2021 = """{
  "crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
  "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
  "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 336
}"""
LLAVA_1_5 = """{
  "_valid_processor_keys": ["images", "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale"],
  "crop_size": {"height": 336, "width": 336}, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
  "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
  "image_processor_type": "CLIPImageProcessor", "image_std": [0.26862954, 0.26130258, 0.27577711],
  "processor_class": "LlavaProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
  "size": {"shortest_edge": 336}
}"""
CLIP_FAST = """{
  "crop_size": {"height": 336, "width": 336}, "data_format": "channels_first", "default_to_square": false,
  "device": null, "disable_grouping": null, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
  "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
  "image_processor_type": "CLIPImageProcessorFast", "image_std": [0.26862954, 0.26130258, 0.27577711],
  "input_data_format": null, "resample": 3, "rescale_factor": 0.00392156862745098, "return_tensors": null,
  "size": {"shortest_edge": 336}
}"""
SIGLIP_384 = """{
  "do_convert_rgb": null, "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
  "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5], "processor_class": "SiglipProcessor",
  "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"height": 384, "width": 384}
}"""
WHISPER_LARGE_V3 = """{
  "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "hop_length": 160,
  "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right", "padding_value": 0.0,
  "processor_class": "WhisperProcessor", "return_attention_mask": false, "sampling_rate": 16000
}"""
CLIP_336 = ImageProcessor(resize=ShortestEdge(pixels=336), crop=(336, 336), mean=CLIP_MEAN, std=CLIP_STD)
SIGLIP = ImageProcessor(resize=Exact(height=384, width=384), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SMALL = {"image_processor_type": "CLIPImageProcessor"}
WHISPER = {"feature_extractor_type": "WhisperFeatureExtractor"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [(CLIP_OF_2021, CLIP_336), (LLAVA_1_5, CLIP_336), (CLIP_FAST, CLIP_336), (SIGLIP_384, SIGLIP)],
    ids=["clip-of-2021", "llava-1.5", "clip-fast", "siglip"],
)
def test_published_image_processors_are_read(tmp_path: Path, file: str, expected: ImageProcessor) -> None:
    (tmp_path / "preprocessor_config.json").write_text(file, "utf-8")
    assert load_image_processor(tmp_path) == expected


@pytest.mark.parametrize("others", [{}, {"mel_filters": [[0.0, 0.1]], "return_attention_mask": True}])
def test_published_sound_processors_are_read(tmp_path: Path, others: dict[str, Any]) -> None:
    """The first Whispers carried their mel filters along, Qwen2-Audio asks for its mask."""
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(json.loads(WHISPER_LARGE_V3) | others), "utf-8"
    )
    assert load_sound_processor(tmp_path) == SoundProcessor(num_mels=128)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "image_processor_type=None is not one that is read here"),
        (
            {"image_processor_type": "ViTImageProcessor"},
            "image_processor_type='ViTImageProcessor' is not one",
        ),
        (SMALL | {"do_flip": True}, "file: unknown key 'do_flip'"),
        (SMALL | {"image_grid_pinpoints": [[336, 672]]}, "unknown key 'image_grid_pinpoints'"),
        (SMALL | {"pad_size": {"height": 3, "width": 3}}, "unknown key 'pad_size'"),
        (SMALL | {"size": {"shortest_edge": 4, "longest_edge": 8}}, "unknown key 'size.longest_edge'"),
        (SMALL | {"size": {"height": 4}}, "file: size has neither shortest_edge alone nor height and width"),
        (SMALL | {"size": {"height": 4, "width": 4, "shortest_edge": 4}}, "size has neither"),
        (SMALL | {"size": "large"}, "size must be .*but is 'large'"),
        (SMALL | {"size": 0}, "file: an image processor with a size of 0 pixels"),
        (SMALL | {"crop_size": {"shortest_edge": 4}}, "needs a crop_size with height and width"),
        ({"image_processor_type": "SiglipImageProcessor", "do_center_crop": True}, "needs a crop_size"),
        (SMALL | {"do_resize": False}, "do_resize must be True, but is False"),
        (SMALL | {"do_normalize": False}, "do_normalize must be True"),
        (SMALL | {"do_pad": True}, "do_pad=true pads to a square only in a LlavaImageProcessor"),
        (SMALL | {"data_format": "channels_last"}, "data_format must be 'channels_first'"),
        (SMALL | {"resample": 6}, "resample=6 is no filter. Use 0 to 5"),
        (SMALL | {"image_mean": [0.5, 0.5]}, "image_mean must be"),
        (SMALL | {"image_std": [0.5, 0.5, 0]}, "divides by zero"),
    ],
    ids=str,
)
def test_an_image_processor_that_computes_otherwise_is_refused_by_name(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_image_processor(keys, where="file")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "file: 'feature_extractor_type' is missing"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "feature_extractor_type must be 'Whisper"),
        (WHISPER | {"do_normalize": True}, "unknown key 'do_normalize'"),
        (WHISPER | {"padding_side": "left"}, "padding_side must be 'right', but is 'left'"),
        (WHISPER | {"padding_value": 1.0}, "padding_value=1.0 is not supported. Supported: 0.0"),
        (WHISPER | {"dither": 1e-4}, "dither=0.0001 is not supported"),
        (WHISPER | {"n_samples": 240_000}, "n_samples=240000 is not supported. Supported: 480000"),
        (WHISPER | {"nb_max_frames": 1500}, "nb_max_frames=1500 is not supported. Supported: 3000"),
        (WHISPER | {"hop_length": 0}, "hop_length=0 of a sound processor is below 1"),
        (WHISPER | {"feature_size": "80"}, "feature_size must be int, but is '80'"),
    ],
    ids=str,
)
def test_a_sound_processor_that_computes_otherwise_is_refused_by_name(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sound_processor(keys, where="file")


def test_null_is_as_good_as_absent() -> None:
    nothing = dict.fromkeys(["size", "crop_size", "do_pad", "do_convert_rgb", "do_center_crop", "whatever"])
    assert read_image_processor(SMALL | nothing, where="file") == read_image_processor(SMALL, where="file")


@pytest.mark.parametrize("processor", [SoundProcessor(), SoundProcessor(num_mels=128, chunk_seconds=10)])
def test_a_sound_processor_comes_back_and_the_reference_reads_it_too(
    tmp_path: Path, processor: SoundProcessor
) -> None:
    save_processors(tmp_path, sound=processor)
    assert load_sound_processor(tmp_path) == processor
    theirs = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(theirs) is WhisperFeatureExtractor
    assert theirs.to_dict().items() >= (
        write_sound_processor(processor).items() - {("processor_class", None)}
    )


@pytest.mark.parametrize("processor", [CLIP_336, SIGLIP])
def test_an_image_processor_comes_back_from_its_directory(tmp_path: Path, processor: ImageProcessor) -> None:
    save_processors(tmp_path, image=processor)
    assert load_image_processor(tmp_path) == processor


def test_two_processors_share_a_file_and_both_come_back(tmp_path: Path) -> None:
    save_processors(tmp_path, image=SIGLIP, sound=SoundProcessor())
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]
    assert (load_image_processor(tmp_path), load_sound_processor(tmp_path)) == (SIGLIP, SoundProcessor())


@pytest.mark.parametrize("first", ["image", "sound", "both"])
def test_what_is_saved_is_what_is_loaded_and_a_processor_that_is_not_given_stays(
    tmp_path: Path, first: str
) -> None:
    old, new = (
        {"image": SIGLIP, "sound": SoundProcessor()},
        {"image": CLIP_336, "sound": SoundProcessor(num_mels=128)},
    )
    save_processors(tmp_path, **(old if first == "both" else {first: old[first]}))  # type: ignore[arg-type]
    save_processors(tmp_path, image=CLIP_336)
    assert load_image_processor(tmp_path) == CLIP_336
    assert first == "image" or load_sound_processor(tmp_path) == SoundProcessor()
    save_processors(tmp_path, sound=SoundProcessor(num_mels=128))
    assert (load_image_processor(tmp_path), load_sound_processor(tmp_path)) == tuple(new.values())
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]


def test_one_processor_saved_twice_stays_in_its_own_file(tmp_path: Path) -> None:
    save_processors(tmp_path, image=SIGLIP)
    save_processors(tmp_path, image=CLIP_336)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    assert load_image_processor(tmp_path) == CLIP_336


def test_keys_beside_the_sections_stay_and_nothing_is_saved_of_nothing(tmp_path: Path) -> None:
    nested = tmp_path / "processor_config.json"
    nested.write_text(json.dumps({"image_processor": json.loads(SIGLIP_384), "patch_size": 14}), "utf-8")
    save_processors(tmp_path, image=CLIP_336)
    assert json.loads(nested.read_text("utf-8"))["patch_size"] == 14
    assert load_image_processor(tmp_path) == CLIP_336
    with pytest.raises(AssertionError, match="there is a processor to save"):
        save_processors(tmp_path)


def test_the_section_of_a_processor_goes_before_the_older_file(tmp_path: Path) -> None:
    """As transformers 5 reads them: LLaVA's file has keys of the model's own beside the section."""
    nested = {
        "image_processor": json.loads(SIGLIP_384),
        "patch_size": 14,
        "processor_class": "LlavaProcessor",
    }
    (tmp_path / "processor_config.json").write_text(json.dumps(nested), "utf-8")
    (tmp_path / "preprocessor_config.json").write_text(LLAVA_1_5, "utf-8")
    assert load_image_processor(tmp_path) == SIGLIP
    (tmp_path / "processor_config.json").write_text(json.dumps({"patch_size": 14}), "utf-8")
    assert load_image_processor(tmp_path) == CLIP_336


def test_an_error_names_the_file_and_the_section(tmp_path: Path) -> None:
    nested = {"feature_extractor": WHISPER | {"dither": 1.0}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested), "utf-8")
    with pytest.raises(ConfigError, match=r"processor_config\.json: feature_extractor: dither=1\.0"):
        load_sound_processor(tmp_path)


def test_a_directory_without_a_processor_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"has no preprocessor_config\.json, and no 'feature_extractor' in"
    ):
        load_sound_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load_sound_processor(tmp_path)


def test_the_reference_computes_the_same_from_the_directory_that_we_wrote(tmp_path: Path) -> None:
    small = ImageProcessor(resize=ShortestEdge(pixels=20), crop=(16, 16), mean=CLIP_MEAN, std=CLIP_STD)
    save_processors(tmp_path, image=small)
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert np.array_equal(theirs(Image.fromarray(image), return_tensors="np").pixel_values[0], small(image))
