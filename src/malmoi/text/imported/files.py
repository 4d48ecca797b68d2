"""Which file of a directory is the tokenizer, and which page of this package reads it.

    path -> find_file -> convert -> Converted

A tokenizer.json is used as it is; everything else is converted. Called by `Tokenizer.load` and by
`malmoi tokenizer import`. Read next: content.py.
"""

from pathlib import Path
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.core.files import read_json
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
    try:
        if is_tiktoken(file):
            converted = read_tiktoken(file, encoding=encoding, pattern=pattern)
        elif encoding or pattern:
            raise TokenizerError(
                "an encoding or a pattern is for files of tiktoken, and this is none. Leave it out."
            )
        elif file.suffix == ".txt":
            converted = read_wordpiece(file, beside)
        elif file.name == "vocab.json":
            converted = read_gpt2(file, beside)
        elif file.suffix == ".json":
            converted = read_tekken(file)
        else:
            converted = read_sentencepiece(file)
        content = with_extra_tokens(converted.content, beside, file.with_name("added_tokens.json"))
    except TokenizerError as problem:
        if str(file) in str(problem):  # said by who opened it
            raise
        raise TokenizerError(f"{file}: {problem}") from problem
    # Other classes of `transformers` would build the steps themselves, and not read those of a tokenizer.json.
    return Converted(content, converted.config | beside | {"tokenizer_class": "PreTrainedTokenizerFast"})
