"""GPT-2's format: vocab.json (token to id) and merges.txt (one merge a line), both in its alphabet of bytes.

Radford et al. 2019 cut words by a pattern that the files do not hold; Qwen2 keeps the same two files for another one.
Which is meant stands in tokenizer_config.json, and without it they are GPT-2's. Read next: patterns.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.core.files import read_text
from malmoi.text.imported.byte_level import BYTE_LEVEL
from malmoi.text.imported.content import Converted, assemble, bpe, sequence, split
from malmoi.text.imported.patterns import GPT2, QWEN

_END = "<|endoftext|>"
_CLASSES = {"GPT2Tokenizer": (GPT2, []), "Qwen2Tokenizer": (QWEN, [{"type": "NFC"}])}
"""By the name in tokenizer_config.json: where words are cut, and what is normalised before."""


def read_gpt2(vocab: Mapping[str, Any], merges_file: Path, config: Mapping[str, Any]) -> Converted:
    """Convert the content of a vocab.json, with the merges.txt beside it; `config` is the tokenizer_config.json.

    Raises:
        TokenizerError: a file is broken, or `config` is of a kind that cuts text in another way.
    """
    name = str(config.get("tokenizer_class", "GPT2Tokenizer")).removesuffix("Fast")
    if name not in _CLASSES:
        raise TokenizerError(
            f"tokenizer_class={name!r} is none of {', '.join(_CLASSES)}, and how it cuts words is not in its files. "
            "Take the tokenizer.json of the same model."
        )
    if config.get("add_prefix_space"):
        raise TokenizerError(
            "add_prefix_space=true is not supported. Take the tokenizer.json of the same model."
        )
    pattern, normalizers = _CLASSES[name]
    if not all(type(token_id) is int and token_id >= 0 for token_id in vocab.values()):
        raise TokenizerError("it does not give every token an id. Fetch it again.")
    content = assemble(
        bpe(vocab, _read_merges(merges_file, vocab)),
        normalizer=sequence("normalizers", normalizers),
        pre_tokenizer=sequence("pretokenizers", [split(pattern), BYTE_LEVEL]),
        decoder=BYTE_LEVEL,
        special=[(_END, vocab[_END])] if _END in vocab else [],
    )
    names = (
        ("eos_token", "pad_token") if name == "Qwen2Tokenizer" else ("bos_token", "eos_token", "unk_token")
    )
    return Converted(content, dict.fromkeys(names, _END) if _END in vocab else {})


def _read_merges(file: Path, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    merges = []
    # Not splitlines: a merge may hold U+0085, which some take for the end of a line.
    for number, line in enumerate(read_text(file, error=TokenizerError).split("\n"), start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        if not (left in vocab and right in vocab and left + right in vocab):
            raise TokenizerError(
                f"{file.name}:{number}: {line!r} does not merge two tokens into one. Fetch it again."
            )
        merges.append((left, right))
    return merges
