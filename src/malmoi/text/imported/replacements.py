"""SentencePiece's table of replacements as normalisers of the `tokenizers` library.

That library can read the table itself ("Precompiled"), but not as SentencePiece does: it looks at one character after
the other, so that 한 in three jamo stays three, and in a cluster of less than six bytes it drops all but the first.
The tables in use are NFKC with exceptions, so here they become NFKC with exceptions.
Read first: charsmap.py. Read next: sentencepiece.py.
"""

import base64
import re
import unicodedata
from collections import defaultdict

from tokenizers import normalizers

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.charsmap import CharsMap, broken
from malmoi.text.imported.content import Part, replace

_MAX_EXCEPTIONS = 64
_PLACES = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""What stands for a character while the others are changed: Unicode keeps these free for such use in a program."""


def normalizers_of(data: bytes, name: str) -> list[Part]:
    """Return the steps that do what a compiled table does; `name` is what its file calls it.

    Equal to SentencePiece for every character, and for letters and syllables in NFC or NFD. Our difference: what
    follows a character that was replaced or composed already (ﬁ + ◌́, 가 + ᆨ) may be composed with it here, as Unicode
    says, and is not there; and some rare letters (Cherokee, where case is folded) lose a mark that no letter is
    composed with.

    Raises:
        TokenizerError: the table is broken, or not one of SentencePiece's own.
    """
    if not data:
        return []
    table = CharsMap(data)
    if name == "user_defined" or table.find("①") != "1":
        raise TokenizerError(
            f"its table of replacements ({name or 'unnamed'}) is none of nmt_nfkc, nfkc, nmt_nfkc_cf and nfkc_cf, and "
            "no tokenizer.json can hold another. Take the tokenizer.json of the same model."
        )
    kinds = ["NFKC", "Lowercase", "NFKC"] if table.find("A") == "a" else ["NFKC"]
    replaced, kept = _exceptions(
        table, normalizers.Sequence([getattr(normalizers, kind)() for kind in kinds])
    )
    if len(replaced) > _MAX_EXCEPTIONS or len(kept) > len(_PLACES):
        raise broken()
    places = dict(zip(kept, _PLACES, strict=False))
    return [
        *(replace(character, place) for character, place in places.items()),
        *(replace(f"[{re.escape(keys)}]", value, is_regex=True) for value, keys in replaced.items()),
        *({"type": kind} for kind in kinds),
        # What is left for it are characters of four bytes, with which the library makes no mistake, and rare letters.
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()},
        *(replace(place, character) for character, place in places.items()),
    ]


def _exceptions(table: CharsMap, standard: normalizers.Normalizer) -> tuple[dict[str, str], list[str]]:
    """Characters of at most three bytes of which the standard steps make something else than the table does.

    Returns for each replacement the characters that become it, and the characters that stay.
    """
    replaced: dict[str, str] = defaultdict(str)
    kept: list[str] = []
    rules = dict(table.characters())
    for code in (*range(1, 0xD800), *range(0xE000, 0x10000)):
        character = chr(code)
        value, usual = rules.get(character, character), standard.normalize_str(character)
        is_left = unicodedata.category(character).startswith("L") and rules.get(usual, usual) == value
        if usual == value or is_left:
            continue
        if value == character:
            kept.append(character)
        else:
            replaced[value] += character
    return replaced, kept
