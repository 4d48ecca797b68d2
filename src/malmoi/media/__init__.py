"""Images and sounds: bytes -> arrays, without torch.

    source -> load_image -> (height, width, 3) uint8  -> ImageProcessor -> (3, rows, columns) float32
    source -> load_sound -> (samples,) float32        -> SoundProcessor -> (chunks, mels, frames) float32, and a mask

A source is a path, bytes or a `data:` URL. What a stranger sends is checked for size before it is decoded, and
whatever is wrong with it is one `MediaError`. Needs the extra `media` (Pillow, soundfile).
Read in this order: `sources`, `image`, `image_processor`, `sound`, `resample`, `sound_processor`, `mel`; then
`huggingface`, where a checkpoint's processors are found.
"""

from malmoi.media.huggingface import load_image_processor, load_sound_processor, save_processors
from malmoi.media.image import load_image
from malmoi.media.image_processor import ImageProcessor
from malmoi.media.sound import load_sound
from malmoi.media.sound_processor import SoundFeatures, SoundProcessor
from malmoi.media.sources import read_data_url

__all__ = [
    "ImageProcessor",
    "SoundFeatures",
    "SoundProcessor",
    "load_image",
    "load_image_processor",
    "load_sound",
    "load_sound_processor",
    "read_data_url",
    "save_processors",
]
