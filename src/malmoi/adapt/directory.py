"""The files of a model whose vocabulary changed: weights, tokenizer, and what names ids or goes along as it is.

Place in the flow: the last step of `malmoi resize` and `malmoi tokenizer shrink`. Read next: `models/checkpoint.py`.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmoi.core.errors import CheckpointError
from malmoi.core.files import read_json, write_json
from malmoi.models import save_model
from malmoi.nn.stack import Model
from malmoi.text.tokenizer import Tokenizer

_ALONG = ("chat_template.*", "preprocessor_config.json", "processor_config.json", "LICENSE*")
_GENERATION = "generation_config.json"
_NAMED = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids")  # fmt: skip
"""The keys of config.json and generation_config.json whose values are ids, or lists of them."""


@dataclass(frozen=True)
class NamedIds:
    """The ids that a model directory names: generation_config.json's keys, and config.json's where that has none."""

    generation: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "NamedIds":
        """Raises CheckpointError if a file is not what its name says."""
        config = read_json(directory / "config.json", error=CheckpointError)
        file = directory / _GENERATION
        generation = read_json(file, error=CheckpointError) if file.is_file() else {}
        named = {key: config[key] for key in _NAMED if config.get(key) is not None}
        return cls(named | {key: value for key, value in generation.items() if value is not None})

    def ids(self) -> set[int]:
        """All of them."""
        return {i for key in _NAMED for i in _flat(self.generation.get(key))}

    def renumbered(self, new_id: Callable[[int], int | None]) -> tuple[dict[str, Any], list[str]]:
        """The keys with new ids, and the names of those left out because a token of theirs is gone.

        >>> NamedIds({"eos_token_id": [2, 0], "pad_token_id": 9, "top_p": 0.9}).renumbered({0: 5, 2: 7}.get)
        ({'eos_token_id': [7, 5], 'top_p': 0.9}, ['pad_token_id'])
        """
        gone = [key for key in _NAMED if any(new_id(i) is None for i in _flat(self.generation.get(key)))]
        kept = {key: value for key, value in self.generation.items() if key not in gone}
        return kept | {key: _mapped(kept[key], new_id) for key in _NAMED if key in kept}, gone


def write_adapted(
    model: Model,
    tokenizer: Tokenizer,
    directory: Path,
    *,
    source: Path,
    new_id: Callable[[int], int | None] = lambda old: old,
) -> list[str]:
    """Write `model` and `tokenizer` as a model directory, with what of `source` belongs to any model of its kind.

    That is chat template, processor files, licence, and generation_config.json with the ids renumbered. Returns its
    keys that are left out because their token is gone.

    The directory appears whole or not at all.

    Raises:
        CheckpointError: `directory` has something in it, or cannot be written.
    """
    require_empty(directory)
    generation, gone = NamedIds.read(source).renumbered(new_id)
    with _whole(directory) as whole:
        save_model(model, whole)
        tokenizer.save(whole)
        if generation:
            write_json(whole / _GENERATION, generation, error=CheckpointError)
        for file in (file for pattern in _ALONG for file in source.glob(pattern) if file.is_file()):
            shutil.copyfile(file, whole / file.name)
    return gone


def require_empty(directory: Path) -> None:
    """Raises CheckpointError if there is something in `directory`: ask before the work, not after."""
    if directory.exists() and any(directory.iterdir()):
        raise CheckpointError(
            f"{directory} is not empty. Write to a new directory, so that no two models get mixed."
        )


@contextmanager
def _whole(directory: Path) -> Iterator[Path]:
    """Lend a directory for the block to fill; if the block ends well, it becomes `directory`."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    try:
        whole = temporary / directory.name  # with the permissions of any directory, which its parent has not
        whole.mkdir()
        yield whole
        whole.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flat(value: Any) -> list[int]:
    if isinstance(value, list):
        return [i for item in value for i in _flat(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def _mapped(value: Any, new_id: Callable[[int], int | None]) -> Any:
    return [_mapped(item, new_id) for item in value] if isinstance(value, list) else new_id(value)
