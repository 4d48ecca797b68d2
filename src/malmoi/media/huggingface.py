"""The processors of a model directory, loaded and saved where Hugging Face has them.

    preprocessor_config.json                   one processor, and nothing else in the file
    processor_config.json, a section for each  how transformers 5 saves a model of several parts; looked at first

Read next: `image_keys.py`, `sound_keys.py`, what the keys mean.
"""

from pathlib import Path
from typing import Any

from malmoi.core.errors import CheckpointError
from malmoi.core.files import read_json, write_json
from malmoi.media.image_keys import read_image_processor, write_image_processor
from malmoi.media.image_processor import ImageProcessor
from malmoi.media.sound_keys import read_sound_processor, write_sound_processor
from malmoi.media.sound_processor import SoundProcessor

_SINGLE, _NESTED = "preprocessor_config.json", "processor_config.json"
_IMAGE, _SOUND = "image_processor", "feature_extractor"


def load_image_processor(directory: str | Path) -> ImageProcessor:
    """The image processor of a model. Raises CheckpointError or ConfigError, each naming the file.

    >>> load_image_processor("no/such/model")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.CheckpointError: no/such/model has no preprocessor_config.json, and no 'image_processor' ...
    """
    keys, where = _read(Path(directory), _IMAGE)
    return read_image_processor(keys, where=where)


def load_sound_processor(directory: str | Path) -> SoundProcessor:
    """The sound processor of a model. Raises CheckpointError or ConfigError, each naming the file."""
    keys, where = _read(Path(directory), _SOUND)
    return read_sound_processor(keys, where=where)


def save_processors(
    directory: str | Path, *, image: ImageProcessor | None = None, sound: SoundProcessor | None = None
) -> None:
    """Write processors of a model into its directory: one alone in its own file, both in sections of one.

    One that is not given stays as it is there, and so do other keys beside the sections. Raises CheckpointError if the
    directory cannot be written, or holds a file that is not JSON.
    """
    assert image is not None or sound is not None, "there is a processor to save"
    single, nested = Path(directory) / _SINGLE, Path(directory) / _NESTED
    others = read_json(nested, error=CheckpointError) if nested.is_file() else {}
    sections = {name: others.pop(name) for name in (_IMAGE, _SOUND) if isinstance(others.get(name), dict)}
    is_nested = bool(sections)
    if single.is_file():
        keys = read_json(single, error=CheckpointError)
        is_of_sound = keys.get("feature_extractor_type") == "WhisperFeatureExtractor"
        sections.setdefault(_SOUND if is_of_sound else _IMAGE, keys)
    if image is not None:
        sections[_IMAGE] = write_image_processor(image)
    if sound is not None:
        sections[_SOUND] = write_sound_processor(sound)
    if is_nested or len(sections) > 1:
        write_json(nested, others | sections, error=CheckpointError)
        single.unlink(missing_ok=True)
    else:
        [alone] = sections.values()
        write_json(single, alone, error=CheckpointError)


def _read(directory: Path, section: str) -> tuple[dict[str, Any], str]:
    if (path := directory / _NESTED).is_file():
        keys = read_json(path, error=CheckpointError).get(section)
        if isinstance(keys, dict):
            return keys, f"{path}: {section}"
    if (path := directory / _SINGLE).is_file():
        return read_json(path, error=CheckpointError), str(path)
    raise CheckpointError(
        f"{directory} has no {_SINGLE}, and no {section!r} in a {_NESTED}. Fetch them from where the model comes from."
    )
