"""Tekken, Mistral's format since July 2024: a JSON file of byte strings, their ranks, and the pattern that cuts words.

The first ids (1,000 of them) are control tokens, so an id is a rank plus their number. The vocabulary is cut to the
size that the file calls default, since it holds more tokens than the models use. Read next: byte_level.py.
"""

import binascii
from collections.abc import Mapping
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.byte_level import from_ranks
from malmoi.text.imported.content import Converted

_UNWRITTEN = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
"""The control tokens of files that do not list them: versions 3 to 7."""

_NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def read_tekken(data: Mapping[str, Any]) -> Converted:
    """Convert the content of a tekken.json.

    Raises:
        TokenizerError: it is not one, or its parts contradict each other.
    """
    try:
        pattern = str(data["config"]["pattern"])
        vocab_size = int(data["config"]["default_vocab_size"])
        num_special = int(data["config"]["default_num_special_tokens"])
        version = int(str(data["config"]["version"]).removeprefix("v").partition("m")[0])
        entries = data["vocab"][: max(0, vocab_size - num_special)]
        ranks = {binascii.a2b_base64(entry["token_bytes"]): int(entry["rank"]) for entry in entries}
        special = _special_tokens(data.get("special_tokens"), num_special, version)
    except (KeyError, TypeError, ValueError) as problem:
        raise TokenizerError(
            f"not a Tekken file: {type(problem).__name__} {problem}. Fetch it again."
        ) from None
    if sorted(ranks.values()) != list(range(vocab_size - num_special)):
        raise TokenizerError(
            f"default_vocab_size={vocab_size} and default_num_special_tokens={num_special} ask for the ranks 0 to "
            f"{vocab_size - num_special - 1}, and the first {len(entries)} entries of the file are not those. "
            "Fetch it again."
        )
    content = from_ranks(ranks, pattern=pattern, special=special, shift=num_special)
    config = {name: token for name, token in _NAMED.items() if token in special}
    return Converted(content, config | {"add_bos_token": "bos_token" in config})


def _special_tokens(entries: list[dict[str, Any]] | None, num_special: int, version: int) -> dict[str, int]:
    """The control tokens and their ids; places that no token is listed for have a name too."""
    if entries is None:
        if version > 7:
            raise ValueError(f"version {version} without special_tokens")
        entries = [{"rank": rank, "token_str": token} for rank, token in enumerate(_UNWRITTEN)]
    names = {int(entry["rank"]): str(entry["token_str"]) for entry in entries}
    special = {names.get(rank, f"<SPECIAL_{rank}>"): rank for rank in range(num_special)}
    if not (len(names) == len(entries) and max(names) < num_special and len(special) == num_special):
        raise ValueError(f"{len(entries)} special_tokens do not fit into {num_special} places")
    return special
