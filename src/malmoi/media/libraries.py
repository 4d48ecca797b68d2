"""The two libraries of the extra `media`, Pillow and soundfile, loaded on first use.

Text needs neither, so `pip install malmoi` does not bring them. Read next: `image.py`, `sound.py`.
"""

from importlib import import_module
from typing import Any

from malmoi.core.errors import MediaError


def library(name: str) -> Any:
    """The module `name` of Pillow or soundfile. Raises MediaError that says what to install."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without the C library that it wraps
        raise MediaError(
            f"images and sound need the extra 'media', and {name} cannot be loaded ({error}). "
            "Install it: pip install 'malmoi[media]'."
        ) from None
