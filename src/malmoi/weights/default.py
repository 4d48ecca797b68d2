"""Where the model that ships in the package lies. Read next: its card, `default_model/README.md`."""

from pathlib import Path

from malmoi.core.errors import CheckpointError


def default_model() -> Path:
    """Return the directory of the shipped checkpoint, an ordinary Hugging Face one. Reads nothing in it.

    >>> default_model().name
    'default_model'

    Raises:
        CheckpointError: this installation was made without the model.
    """
    directory = Path(__file__).parents[1] / "default_model"
    if not (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} holds no model: this installation was made without it. "
            "Reinstall malmoi, or name a model: a directory or a Hugging Face id."
        )
    return directory
