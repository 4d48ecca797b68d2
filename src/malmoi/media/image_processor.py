"""An RGB array -> the numbers that a vision tower was trained on: resize, crop, rescale, normalise.

Place in the flow: `load_image` -> `ImageProcessor` -> `model(tokens, images=...)`. How many tokens of the prompt an
image takes is the family's business. Read next: `image_keys.py`, how a checkpoint writes a processor down.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from malmoi.core.errors import ConfigError, MediaError
from malmoi.media.image import MAX_PIXELS
from malmoi.media.libraries import library

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


@dataclass(frozen=True, kw_only=True)
class ShortestEdge:
    """Resize so that the shorter side has `pixels` and the longer one is in proportion, rounded down (CLIP).

    >>> ShortestEdge(pixels=224).of(480, 640)
    (224, 298)
    """

    kind: Literal["shortest_edge"] = "shortest_edge"
    pixels: int

    def of(self, height: int, width: int) -> tuple[int, int]:
        """The new height and width."""
        longer = int(self.pixels * max(height, width) / min(height, width))
        return (self.pixels, longer) if height < width else (longer, self.pixels)


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Resize to `height` x `width`, whatever the shape was (SigLIP)."""

    kind: Literal["exact"] = "exact"
    height: int
    width: int

    def of(self, height: int, width: int) -> tuple[int, int]:
        """The new height and width."""
        return self.height, self.width


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """The preprocessing of CLIP (arXiv:2103.00020), SigLIP (arXiv:2303.15343) and LLaVA (arXiv:2304.08485).

    In this order: pad to a square with the mean colour (`is_padded_to_square`), resize with the filter `resample`,
    cut `crop` = (height, width) out of the middle, with black around where the image is smaller, and then
    `(pixel * scale - mean) / std` for each channel. Equal bit for bit to the Pillow processors of `transformers` 5.

    >>> processor = ImageProcessor(resize=Exact(height=2, width=2), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> processor(np.full((4, 6, 3), 255, np.uint8)).tolist()[0]
    [[1.0, 1.0], [1.0, 1.0]]

    Raises ConfigError on a size below 1, a zero in `std`, or a mean that is no colour to pad with.
    """

    resize: ShortestEdge | Exact
    crop: tuple[int, int] | None = None
    is_padded_to_square: bool = False
    resample: Resample = "bicubic"
    scale: float = 1 / 255
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        smallest = min(*self.resize.of(1, 1), *(self.crop or (1, 1)))
        if smallest < 1:
            raise ConfigError(f"an image processor with a size of {smallest} pixels. Use 1 or more.")
        if 0.0 in self.std:
            raise ConfigError(f"std={self.std} of an image processor divides by zero. Correct it.")
        if self.is_padded_to_square and not all(0 <= channel <= 1 for channel in self.mean):
            raise ConfigError(f"mean={self.mean} is no colour to pad images with. Use numbers from 0 to 1.")

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "3 rows columns"]:
        """What the tower is given for one image. Raises MediaError if it is a line that would grow without bound."""
        if self.is_padded_to_square:
            image = _pad_to_square(image, self.mean)
        image = _resize(image, *self.resize.of(*image.shape[:2]), self.resample)
        if self.crop is not None:
            image = _center_crop(image, *self.crop)
        # The product in float64 and the rest in float32, as the reference does: the last bit depends on it.
        scaled = (image.astype(np.float64) * self.scale).astype(np.float32)
        normalised = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _pad_to_square(
    image: UInt8[np.ndarray, "height width 3"], mean: tuple[float, float, float]
) -> UInt8[np.ndarray, "side side 3"]:
    height, width, _ = image.shape
    side = max(height, width)
    _check_growth(image, side, side)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = [int(channel * 255) for channel in mean]
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _resize(
    image: UInt8[np.ndarray, "height width 3"], height: int, width: int, resample: Resample
) -> UInt8[np.ndarray, "rows columns 3"]:
    _check_growth(image, height, width)
    Image = library("PIL.Image")
    resized = Image.fromarray(image).resize((width, height), Image.Resampling[resample.upper()])
    return np.asarray(resized)


def _check_growth(image: UInt8[np.ndarray, "height width 3"], height: int, width: int) -> None:
    """Refuse what a line of one pixel by thousands becomes when it is made square, or its shorter side hundreds."""
    if height * width > MAX_PIXELS:
        raise MediaError(
            f"an image of {image.shape[1]:,} x {image.shape[0]:,} pixels would become one of {width:,} x {height:,}, "
            f"and {MAX_PIXELS:,} are allowed. Crop its longer side."
        )


def _center_crop(
    image: UInt8[np.ndarray, "height width 3"], height: int, width: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    missing = [max(0, height - image.shape[0]), max(0, width - image.shape[1])]
    image = np.pad(image, [(n - n // 2, n // 2) for n in missing] + [(0, 0)])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
