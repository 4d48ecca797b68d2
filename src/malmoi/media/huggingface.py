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
    """Write the processors of a model into its directory: one alone in its own file, both in sections of one.

    Raises CheckpointError if the directory cannot be written.
    """
    sections: dict[str, Any] = {}
    if image is not None:
        sections[_IMAGE] = write_image_processor(image)
    if sound is not None:
        sections[_SOUND] = write_sound_processor(sound)
    name, value = (_SINGLE, *sections.values()) if len(sections) == 1 else (_NESTED, sections)
    write_json(Path(directory) / name, value, error=CheckpointError)


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
