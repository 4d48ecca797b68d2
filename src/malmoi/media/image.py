"""PNG, JPEG or WebP bytes -> an RGB array, upright.

Strangers send images, so only three decoders are ever opened and the number of pixels is checked before they
are decoded. Read next: `image_processor.py`, which makes of the array what a vision tower was trained on.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8

from malmoi.core.errors import MediaError
from malmoi.media.libraries import library
from malmoi.media.sources import Blob, MediaSource, read_source

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 64_000_000  # more than the 50 million of a phone's camera, and four bytes each while decoding
_BAND = 256
_lock = threading.Lock()


def load_image(
    source: MediaSource, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "height width 3"]:
    """The image in a file, in bytes or in a `data:` URL, as 8-bit RGB.

    It is turned as its EXIF orientation says. What is transparent becomes white, greyscale and palettes become
    RGB, of an animation it is the first frame. These are the rules of `transformers` 5 (`load_image` for the
    turning, the image processors for the rest), with one difference: of 16-bit greyscale the upper 8 bits are
    kept, as Pillow does for 16-bit colour, where the reference cuts everything above 255 down to white.

    >>> dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    >>> load_image(f"data:image/png;base64,{dot}").tolist()    # one pixel, red
    [[[255, 0, 0]]]

    Raises:
        MediaError: not one of the three formats, broken, cut off, above a limit; or no Pillow.
    """
    blob = read_source(source, max_bytes=max_bytes)
    Image, ImageOps = library("PIL.Image"), library("PIL.ImageOps")
    try:
        with _quiet():
            image = Image.open(BytesIO(blob.data), formats=FORMATS)
        _check_pixels(image.width, image.height, blob, max_pixels)
        image.load()
        with _quiet():
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image, Image)
    except MediaError:
        raise
    except Image.DecompressionBombError:  # Pillow has a limit of its own, far above ours, and looks first
        raise MediaError(
            f"{blob.name} has far more pixels than the {max_pixels:,} that are allowed. Scale it down."
        ) from None
    except Image.UnidentifiedImageError:
        raise MediaError(f"{blob.name} is no PNG, JPEG or WebP image. Convert it to one.") from None
    except Exception as error:  # on broken bytes decoders raise what they like, and quote them
        raise MediaError(f"{blob.name} cannot be decoded. Export or fetch it again.") from error


def _check_pixels(width: int, height: int, blob: Blob, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise MediaError(
            f"{blob.name} has {width:,} x {height:,} pixels, and {max_pixels:,} are allowed. Scale it down."
        )


def _to_rgb(image: Any, Image: Any) -> UInt8[np.ndarray, "height width 3"]:
    """A band of rows at a time, because each step of Pillow's makes a copy of four bytes a pixel."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if band.mode.startswith("I"):  # 16-bit greyscale
            rgb[top : top + _BAND] = (np.asarray(band) >> 8)[..., None]
            continue
        if band.has_transparency_data:
            white = Image.new("RGBA", band.size, (255, 255, 255, 255))
            band = Image.alpha_composite(white, band.convert("RGBA"))
        rgb[top : top + _BAND] = np.asarray(band.convert("RGB"))
    return rgb


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Pillow's warnings about odd metadata. Filters belong to the whole process, hence the lock."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
