"""An image processor and the keys of its `preprocessor_config.json`, both ways and strictly.

The file's dataclass is its schema: `core/config.py` refuses a key that is not a field, or a value of another type.
Read next: `huggingface.py`, which finds the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError
from malmoi.media.image_processor import Exact, ImageProcessor, Resample, ShortestEdge

_FILTERS: tuple[Resample, ...] = get_args(Resample)  # the file counts them from 0, as Pillow does
_CLIP = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SIGLIP = {
    "size": {"height": 224, "width": 224},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
# What each class of `transformers` means where its file is silent.
_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "CLIPFeatureExtractor": _CLIP,  # the name before 2023
    "LlavaImageProcessor": _CLIP,
    "SiglipImageProcessor": _SIGLIP,
}
# Which class it is, and what does not change the numbers: our images are RGB already, and go channels first.
_NEUTRAL = {
    "image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "do_convert_rgb",
    "input_data_format", "return_tensors", "device", "disable_grouping",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Size:
    shortest_edge: int | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Keys:
    size: int | tuple[int, int] | _Size
    default_to_square: bool = False
    crop_size: int | tuple[int, int] | _Size | None = None
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resample: int = _FILTERS.index("bicubic")
    rescale_factor: float = 1 / 255
    do_center_crop: bool = False
    do_pad: bool = False
    do_resize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    data_format: Literal["channels_first"] = "channels_first"


def read_image_processor(keys: Mapping[str, Any], *, where: str) -> ImageProcessor:
    """The processor that the keys of a CLIP, SigLIP or LLaVA file describe. Null counts as absent.

    >>> read_image_processor({"image_processor_type": "SiglipImageProcessor"}, where="the file").resize
    Exact(kind='exact', height=224, width=224)
    >>> read_image_processor({"image_processor_type": "CLIPImageProcessor", "do_flip": True}, where="the file")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: the file: unknown key 'do_flip'. ...

    Raises:
        ConfigError: another class, an unknown key, or a value that asks for what is not computed here.
    """
    told = keys.get("image_processor_type") or keys.get("feature_extractor_type")
    name = str(told).removesuffix("Fast")
    if name not in _DEFAULTS:
        raise ConfigError(
            f"{where}: image_processor_type={told!r} is not one that is read here. Read are: {', '.join(_DEFAULTS)}."
        )
    given = {key: value for key, value in keys.items() if value is not None and key not in _NEUTRAL}
    read = from_mapping(_Keys, _DEFAULTS[name] | given, where=where)
    if read.do_pad and name != "LlavaImageProcessor":
        raise ConfigError(f"{where}: do_pad=true pads to a square only in a LlavaImageProcessor. Correct it.")
    if not 0 <= read.resample < len(_FILTERS):
        raise ConfigError(f"{where}: resample={read.resample} is no filter. Use 0 to {len(_FILTERS) - 1}.")
    try:
        return ImageProcessor(
            resize=_resize(read.size, read.default_to_square),
            crop=_crop(read.crop_size) if read.do_center_crop else None,
            is_padded_to_square=read.do_pad,
            resample=_FILTERS[read.resample],
            scale=read.rescale_factor,
            mean=read.image_mean,
            std=read.image_std,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def write_image_processor(processor: ImageProcessor) -> dict[str, Any]:
    """`read_image_processor` run backwards, under the name of a class that computes the same.

    >>> siglip = read_image_processor({"image_processor_type": "SiglipImageProcessor"}, where="the file")
    >>> write_image_processor(siglip)["image_processor_type"]
    'SiglipImageProcessor'
    """
    resize, crop = processor.resize, processor.crop
    is_siglip = isinstance(resize, Exact) and crop is None and not processor.is_padded_to_square
    other = "LlavaImageProcessor" if processor.is_padded_to_square else "CLIPImageProcessor"
    keys: dict[str, Any] = {
        "image_processor_type": "SiglipImageProcessor" if is_siglip else other,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(processor.mean),
        "image_std": list(processor.std),
        "resample": _FILTERS.index(processor.resample),
        "rescale_factor": processor.scale,
        "size": {"height": resize.height, "width": resize.width}
        if isinstance(resize, Exact)
        else {"shortest_edge": resize.pixels},
    }
    if not is_siglip:  # the one class that does not crop unless told to
        keys["do_center_crop"] = crop is not None
    if crop is not None:
        keys["crop_size"] = {"height": crop[0], "width": crop[1]}
    if processor.is_padded_to_square:
        keys["do_pad"] = True
    return keys


def _resize(size: int | tuple[int, int] | _Size, is_square: bool) -> ShortestEdge | Exact:
    match size:
        case int():
            return Exact(height=size, width=size) if is_square else ShortestEdge(pixels=size)
        case _Size(shortest_edge=int(pixels), height=None, width=None):
            return ShortestEdge(pixels=pixels)
        case (int(height), int(width)) | _Size(shortest_edge=None, height=int(height), width=int(width)):
            return Exact(height=height, width=width)
    raise ConfigError("size has neither shortest_edge alone nor height and width. Give one or the other.")


def _crop(size: int | tuple[int, int] | _Size | None) -> tuple[int, int]:
    match size:
        case int():
            return size, size
        case (int(height), int(width)) | _Size(shortest_edge=None, height=int(height), width=int(width)):
            return height, width
    raise ConfigError(
        "do_center_crop=true needs a crop_size with height and width. Add it, or set it to false."
    )
