"""PNG, JPEG and WebP become the RGB array that the reference makes of them; everything else is a MediaError."""

import base64
import io
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image as load_reference

from malmoi.core.errors import MediaError
from malmoi.media import load_image

ORIENTATION = 0x0112


def picture(height: int = 24, width: int = 40, channels: int = 3) -> np.ndarray:
    """A gradient with some noise: every pixel differs, every turn shows, and JPEG has something to do."""
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([rows * 9, columns * 6, rows + columns, 250 - rows * 8], axis=-1)[..., :channels]
    return (ramp + np.random.default_rng(0).integers(0, 6, ramp.shape)).astype(np.uint8)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


RGB, RGBA = Image.fromarray(picture()), Image.fromarray(picture(channels=4))
FILES = {
    "PNG": encode(RGB),
    "JPEG": encode(RGB, "JPEG"),
    "WEBP": encode(RGB, "WEBP"),
    "WEBP-RGBA": encode(RGBA, "WEBP", lossless=True),
}


@pytest.mark.parametrize("format", FILES)
def test_an_image_is_the_same_from_a_path_bytes_and_a_url(tmp_path: Path, format: str) -> None:
    (tmp_path / "image").write_bytes(FILES[format])
    url = f"data:image/png;base64,{base64.b64encode(FILES[format]).decode()}"
    expected = convert_to_rgb(Image.open(tmp_path / "image"), return_numpy=True)
    for source in (FILES[format], tmp_path / "image", str(tmp_path / "image"), url):
        image = load_image(source)
        assert image.dtype == np.uint8
        assert np.array_equal(image, expected)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_lossless_image_comes_back_pixel_by_pixel(format: str) -> None:
    assert np.array_equal(load_image(encode(RGB, format, lossless=True)), picture())


COLOURS = {
    "greyscale": encode(RGB.convert("L")),
    "greyscale-jpeg": encode(RGB.convert("L"), "JPEG"),
    "greyscale-alpha": encode(RGBA.convert("LA")),
    "black-and-white": encode(RGB.convert("1")),
    "palette": encode(RGB.convert("P")),
    "palette-transparent": encode(RGB.convert("P"), transparency=7),
    "palette-half-transparent": encode(RGB.convert("P"), transparency=bytes(range(256))),
    "rgba": encode(RGBA),
    "rgba-webp": FILES["WEBP-RGBA"],
    "one-colour-transparent": encode(RGB, transparency=tuple(int(c) for c in picture()[3, 3])),
    "cmyk-jpeg": encode(RGB.convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", COLOURS)
def test_every_kind_of_colour_becomes_the_rgb_of_the_reference(name: str) -> None:
    reference = convert_to_rgb(Image.open(io.BytesIO(COLOURS[name])), return_numpy=True)
    assert np.array_equal(load_image(COLOURS[name]), reference)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_a_tall_image_is_converted_in_bands_without_a_seam(mode: str) -> None:
    file = encode(Image.fromarray(picture(600, 3, channels=4)).convert(mode))
    assert np.array_equal(load_image(file), convert_to_rgb(Image.open(io.BytesIO(file)), return_numpy=True))


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert (load_image(encode(clear)) == 255).all()


def test_sixteen_bits_of_grey_keep_their_upper_eight() -> None:
    """Our difference: the reference cuts off what is above 255, and nearly everything is white."""
    grey = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    file = encode(Image.fromarray(grey))
    assert np.array_equal(load_image(file), np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))
    assert (convert_to_rgb(Image.open(io.BytesIO(file)), return_numpy=True)[0, 1:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_turned_upright_as_the_reference_turns_it(
    tmp_path: Path, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "photo").write_bytes(encode(RGB, format, exif=exif))
    assert np.array_equal(load_image(tmp_path / "photo"), np.array(load_reference(str(tmp_path / "photo"))))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_it_is_the_first_frame(format: str) -> None:
    others = [Image.new("RGB", RGB.size, colour) for colour in ("red", "blue")]
    file = encode(RGB, format, save_all=True, append_images=others, lossless=True)
    assert Image.open(io.BytesIO(file)).n_frames == 3
    assert np.array_equal(load_image(file), picture())


def test_a_phones_jpeg_of_several_pictures_is_its_first() -> None:
    file = encode(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)])
    assert np.abs(load_image(file).astype(int) - picture()).mean() < 8


# ---- bad input


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused_though_pillow_knows_them(format: str) -> None:
    with pytest.raises(MediaError, match=r"is no PNG, JPEG or WebP image\. Convert it"):
        load_image(encode(RGB, format))


SECRET = b"hunter2:"
SECRETS = {
    "bytes of no format": SECRET * 4,
    "a chunk of no PNG": FILES["PNG"][:33] + struct.pack(">I", 8) + SECRET[:4] + SECRET + bytes(4),
    "a JPEG of no image": b"\xff\xd8\xff\xe0" + SECRET * 40,
}


@pytest.mark.parametrize("kind", SECRETS)
def test_an_error_never_quotes_what_is_in_a_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(SECRETS[kind])
    for source in (SECRETS[kind], file, f"data:,{quote(SECRETS[kind], safe='')}"):
        with pytest.raises(MediaError) as caught:
            load_image(source)
        assert SECRET[:4].decode() not in str(caught.value)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_an_image_that_is_cut_off_is_refused(format: str, share: float) -> None:
    with pytest.raises(MediaError):
        load_image(FILES[format][: int(len(FILES[format]) * share)])


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [8_001, 9_500, 20_000, 2**31 - 1])
def test_more_pixels_than_allowed_are_refused_before_decoding_and_without_a_warning(side: int) -> None:
    with pytest.raises(MediaError, match="pixels"):
        load_image(png_header(side, side))


def test_the_limit_of_pixels_is_exact_and_names_the_size() -> None:
    assert load_image(FILES["PNG"], max_pixels=24 * 40).shape == (24, 40, 3)
    with pytest.raises(MediaError, match=r"has 40 x 24 pixels, and 959 are allowed\. Scale it down"):
        load_image(FILES["PNG"], max_pixels=24 * 40 - 1)


def test_the_limit_of_bytes_is_passed_on() -> None:
    with pytest.raises(MediaError, match="100 are allowed"):
        load_image(FILES["PNG"], max_bytes=100)


def test_no_warning_of_pillow_leaks() -> None:
    exif_that_lies_about_its_length = (
        b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\0\0"
    )
    file = encode(RGB, "JPEG", exif=exif_that_lies_about_its_length)
    with pytest.warns(UserWarning, match="Tag data larger than file|Corrupt EXIF"):
        Image.open(io.BytesIO(file)).getexif()
    assert load_image(file).shape == (24, 40, 3)


def test_warning_filters_are_as_before_also_after_many_threads() -> None:
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [load_image(FILES["JPEG"]) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@given(st.binary(max_size=200))
def test_random_bytes_are_an_image_or_a_media_error(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\0\0\0WEBPVP8X"):
        try:
            load_image(start + data)
        except MediaError:
            continue


@given(st.sampled_from([*FILES.values(), *COLOURS.values()]), st.data())
def test_a_damaged_image_is_an_image_or_a_media_error(file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert load_image(bytes(damaged), max_pixels=10_000_000).shape[2] == 3
    except MediaError:
        return


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MediaError, match=r"pip install 'malmoi\[media\]'"):
        load_image(FILES["PNG"])
