"""Which file of a directory is the tokenizer, and which page of this package reads it.

    path -> find_file -> convert -> Converted

A tokenizer.json is used as it is; everything else is converted. Called by `Tokenizer.load` and by
`malmoi tokenizer import`. Read next: content.py.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.core.files import read_json, read_text
from malmoi.text.imported.content import Converted
from malmoi.text.imported.extra import with_extra_tokens
from malmoi.text.imported.gpt2 import read_gpt2
from malmoi.text.imported.sentencepiece import read_sentencepiece
from malmoi.text.imported.tekken import read_tekken
from malmoi.text.imported.tiktoken import is_tiktoken, read_tiktoken
from malmoi.text.imported.wordpiece import read_wordpiece

NAMES = ("tokenizer.json", "tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt")
"""What a directory's tokenizer may be called, in the order in which we look. vocab.json has a merges.txt beside it."""


def find_file(path: Path) -> Path:
    """Return the tokenizer's file: `path` itself, or of a directory the first of `NAMES`, else one `.tiktoken` file.

    Raises:
        TokenizerError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise TokenizerError(f"{path} does not exist. Name a tokenizer's file or a directory with one.")
    named = [path / name for name in NAMES if (path / name).is_file()]
    found = named or sorted(path.glob("*.tiktoken"))
    if not found:
        raise TokenizerError(
            f"{path} has no tokenizer: none of {', '.join(NAMES)} and no *.tiktoken. Add one."
        )
    return found[0]


def is_tokenizer_json(file: Path) -> bool:
    """Say whether a file is one, by its name: JSON, but neither Tekken's nor GPT-2's."""
    return file.suffix == ".json" and "tekken" not in file.name and file.name != "vocab.json"


def convert(file: Path, *, encoding: str | None = None, pattern: str | None = None) -> Converted:
    """Read a tokenizer's file that is no tokenizer.json, with what other files beside it say.

    `encoding` and `pattern` are for tiktoken's files, as in `read_tiktoken`.

    Raises:
        TokenizerError: the file is of no known kind, broken, or holds what a tokenizer.json cannot say.
    """
    config_file = file.with_name("tokenizer_config.json")
    beside: dict[str, Any] = read_json(config_file, error=TokenizerError) if config_file.is_file() else {}
    read = _opened(file, beside, encoding, pattern)
    try:
        converted = read()
        content = with_extra_tokens(converted.content, beside, file.with_name("added_tokens.json"))
    except TokenizerError as problem:
        raise TokenizerError(f"{file}: {problem}") from problem
    # Other classes of `transformers` would build the steps themselves, and not read those of a tokenizer.json.
    return Converted(content, converted.config | beside | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _opened(
    file: Path, beside: dict[str, Any], encoding: str | None, pattern: str | None
) -> Callable[[], Converted]:
    """Return what converts the file's content, which is here. An error names the file; those of the function do not."""
    read: Callable[[], Converted]
    if file.suffix == ".txt":
        read = partial(read_wordpiece, read_text(file, error=TokenizerError), beside)
    elif file.name == "vocab.json":
        vocab = read_json(file, error=TokenizerError)
        read = partial(read_gpt2, vocab, file.with_name("merges.txt"), beside)
    elif file.suffix == ".json":
        read = partial(read_tekken, read_json(file, error=TokenizerError))
    else:
        data = _read_bytes(file)
        if file.suffix == ".tiktoken" or is_tiktoken(data):
            return partial(read_tiktoken, data, file.stem, encoding=encoding, pattern=pattern)
        read = partial(read_sentencepiece, data)
    if encoding or pattern:
        raise TokenizerError(
            f"{file}: an encoding or a pattern is for files of tiktoken, and this is none. Leave it out."
        )
    return read


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as problem:
        raise TokenizerError(f"cannot read {file}: {problem.strerror}. Check the path.") from problem
