"""WAV, FLAC or OGG bytes -> one channel of float32 samples, at the rate that a model hears.

The twin of `image.py`: three formats and no others, and limits that hold before the memory is taken. Read next:
`resample.py`, which changes the rate; `sound_processor.py`, which makes of the samples what an encoder is given.
"""

from io import BytesIO

import numpy as np
from jaxtyping import Float32

from malmoi.core.errors import MediaError
from malmoi.media.libraries import library
from malmoi.media.resample import resample
from malmoi.media.sources import Blob, MediaSource, read_source

MAX_BYTES = 50_000_000
MAX_SECONDS = 1800.0  # 50 MB are 26 minutes of 16-bit samples at 16 kHz, but many hours of silence in FLAC
# Of a channel, at the rate of the file: that, and not how long it lasts, takes memory. 30 minutes of silence at 48 kHz,
# a FLAC of 272 kB, took 0.9 GB at the peak.
MAX_SAMPLES = 1800 * 48_000
RATES = range(1000, 384_001)  # of what is recorded; a made-up one would ask for filters of any size
_LOUDEST = 1e12  # no sound, and sums of such numbers still fit into float32
_UNKNOWN = 2**31 - 2**16  # bytes, from which on a size stands for "written while it was not known yet"


def load_sound(
    source: MediaSource,
    *,
    sample_rate: int = 16_000,
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
    max_samples: int = MAX_SAMPLES,
) -> Float32[np.ndarray, " samples"]:
    """The sound in a file, in bytes or in a `data:` URL, at `sample_rate` samples a second.

    Its channels are averaged. Integers become numbers from -1 to 1; a file of floats may leave that range, and
    nothing is clipped. `max_samples` is of a channel and before the rate is changed: 30 minutes at 48 kHz, but not at
    96. Both limits are checked against what the file says of itself, before anything is decoded.

    >>> wav = "UklGRigAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQQAAAAAAABA"
    >>> load_sound(f"data:audio/wav;base64,{wav}").tolist()    # two samples of 16 bits: 0 and 16,384
    [0.0, 0.5]

    Raises:
        MediaError: not one of the three formats, broken, cut off, without samples, above a limit; or no soundfile.
    """
    blob = read_source(source, max_bytes=max_bytes)
    samples, source_rate = _decode(blob, max_seconds, max_samples)
    if len(samples) == 0:
        raise MediaError(f"{blob.name} holds no samples. Give a sound that lasts.")
    if not (np.abs(samples) < _LOUDEST).all():
        raise MediaError(
            f"{blob.name} has samples that are NaN, infinite or above {_LOUDEST:g}. Export it again."
        )
    return resample(samples, source_rate=source_rate, target_rate=sample_rate)


def _decode(blob: Blob, max_seconds: float, max_samples: int) -> tuple[Float32[np.ndarray, " samples"], int]:
    if not (blob.data[:4] in (b"fLaC", b"OggS") or (blob.data[:4] == b"RIFF" and blob.data[8:12] == b"WAVE")):
        raise MediaError(
            f"{blob.name} is no WAV, FLAC or OGG sound. Convert it, for example: ffmpeg -i IN out.flac."
        )
    soundfile = library("soundfile")
    try:
        # Infinities of two channels may cancel to NaN, which is looked for later.
        with soundfile.SoundFile(BytesIO(blob.data)) as file, np.errstate(all="ignore"):
            num_frames, rate = file.frames, file.samplerate
            _check_header(num_frames, rate, blob, max_seconds, max_samples)
            # Mixed to one channel piece by piece: a thousand channels would not fit otherwise.
            pieces = file.blocks(max(1, 2**20 // file.channels), dtype="float32", always_2d=True)
            samples = np.concatenate([np.zeros(0, np.float32), *(piece.mean(axis=1) for piece in pieces)])
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise MediaError(f"{blob.name} cannot be decoded. Export or fetch it again.") from error
    # The decoder plays what was cut off as a shorter sound, and says nothing.
    if len(samples) < num_frames or _is_cut_off(blob.data):
        raise MediaError(
            f"{blob.name} is cut off after {len(samples) / rate:.2f} s. Export or fetch it again."
        )
    return samples, rate


def _check_header(num_frames: int, rate: int, blob: Blob, max_seconds: float, max_samples: int) -> None:
    if rate not in RATES:
        raise MediaError(
            f"{blob.name} claims {rate:,} samples a second. Read are {RATES[0]:,} to {RATES[-1]:,}; export it again."
        )
    if num_frames >= 2**62:
        raise MediaError(f"{blob.name} does not say how long it is. Write it again: ffmpeg -i IN out.flac.")
    if num_frames > max_seconds * rate:
        raise MediaError(
            f"{blob.name} lasts {num_frames / rate:,.1f} s, and {max_seconds:,.1f} s are allowed. "
            "Cut it, or raise max_seconds."
        )
    if num_frames > max_samples:
        raise MediaError(
            f"{blob.name} has {num_frames:,} samples a channel, {rate:,} a second, and {max_samples:,} are allowed. "
            "Write it at a lower rate (ffmpeg -i IN -ar 16000 out.flac), cut it, or raise max_samples."
        )


def _is_cut_off(data: bytes) -> bool:
    """Whether an OGG lacks its last page, or a WAV has fewer bytes of samples than it announces."""
    if data[:4] == b"OggS":
        page = data[data.rfind(b"OggS") :]
        is_last = len(page) > 27 and page[5] & 4
        return not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
    position = 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"data":
            return len(data) - position - 8 < size < _UNKNOWN
        position += 8 + size + size % 2
    return False
