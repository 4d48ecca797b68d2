r"""What an expansion may join: tokens inside Hangul, and the space before it.

A new token that could stand in an English sentence would change its ids. So a joined piece holds a Hangul character,
or bytes that no other character begins with. Quotes, digits and Latin letters stay outside even beside Hangul: they
keep their tokens there too. Place in the flow: between `spelling.py` and `continuing.py`. Read next: `growth.py`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from malmoi.text.vocabulary.continuing import Piece

_BLOCKS = (range(0x1100, 0x1200), range(0x3130, 0x3190), range(0xA960, 0xA980), range(0xAC00, 0xD800))
"""Unicode's blocks of Hangul: jamo, compatibility jamo, jamo extended A, syllables with jamo extended B."""

_HANGUL = "[" + "".join(f"{chr(block[0])}-{chr(block[-1])}" for block in _BLOCKS) + "]"
_WORD = re.compile(f" ?{_HANGUL}+")
_PHRASE = re.compile(f"(?: ?{_HANGUL})+")
_HAS_HANGUL = re.compile(_HANGUL)

Spelled = tuple[str, bytes]
"""A token in the vocabulary's spelling, and the bytes of the text that it stands for."""


def has_hangul(text: str) -> bool:
    """Whether some character of `text` is of a Hangul block.

    >>> [has_hangul(text) for text in ("v2 한", "ㅋㅋ", "日本 à la “carte”")]
    [True, True, False]
    """
    return _HAS_HANGUL.search(text) is not None


def hangul_words(
    tokens: Iterable[Spelled], *, is_byte_level: bool, space: str, across_spaces: bool = False
) -> Iterator[list[Piece]]:
    """Cut what the base spelled in tokens to the stretches that may be joined; `space` is how it writes one.

    A space belongs to the Hangul that follows, and to nothing else: it begins a stretch, also where the base itself
    cuts no words, or is inside of one with `across_spaces`. Where a token ends inside a character, a piece has several;
    in a byte-level base joining it makes parts of characters on the way, and they must be Hangul's alone too.

    >>> tokens = [(token, token.encode()) for token in ("“", "한", "국", "a")]
    >>> [[piece.text for piece in word] for word in hangul_words(tokens, is_byte_level=False, space="▁")]
    [['한', '국']]
    >>> tokens = [(token, token.encode()) for token in ("나", "의", " ", "집", " ")]
    >>> [[piece.text for piece in word] for word in hangul_words(tokens, is_byte_level=False, space=" ")]
    [['나', '의'], [' ', '집']]
    """
    joinable = _PHRASE if across_spaces else _WORD
    word: list[Piece] = []
    before: list[Piece] = []  # the last piece, if it is a space
    for group in _whole_characters(tokens):
        names = tuple(name for name, _ in group)
        spelled = b"".join(piece for _, piece in group).decode("utf-8", "replace")
        piece = Piece(names, "".join(names) if is_byte_level else spelled.replace(" ", space))
        if spelled == " " and not before:
            before = [piece]
            continue
        text = " " * len(before) + spelled
        is_hangul = joinable.fullmatch(text) and (not is_byte_level or _parts_are_hangul(group))
        if word and not (is_hangul and (across_spaces or text[0] != " ")):
            yield word
            word = []
        if is_hangul:
            word += [*before, piece]
        before = []
    if word:
        yield word


def _whole_characters(tokens: Iterable[Spelled]) -> Iterator[list[Spelled]]:
    """Group tokens so that each group ends where a character ends, if it can."""
    group: list[Spelled] = []
    for token in tokens:
        group.append(token)
        try:
            b"".join(piece for _, piece in group).decode()
        except UnicodeDecodeError:
            continue
        yield group
        group = []
    if group:
        yield group


def _parts_are_hangul(group: Sequence[Spelled]) -> bool:
    """Whether what is joined on the way to the whole group can be read as nothing but Hangul."""
    begun = list(accumulate(piece for _, piece in group))
    return all(map(_is_hangul, begun[1:-1]))


def _is_hangul(begun: bytes) -> bool:
    """Whether every text that these bytes begin has Hangul in them.

    EC 95 can only go on to one of the syllables from U+C540 to U+C57F; E3 84 also to a Bopomofo letter.
    """
    whole = begun.decode("utf-8", "ignore")
    if has_hangul(whole):
        return True
    part = begun[len(whole.encode()) :]
    if not 0xE0 <= part[0] <= 0xEF:
        return False  # Hangul has three bytes a character
    first = part + b"\x80" * (3 - len(part))
    last = part + (b"\xbf\xbf" if part[0] != 0xED else b"\x9f\xbf")[len(part) - 1 :]
    codes = [_code(first), _code(last)]
    return any(codes[0] in block and codes[1] in block for block in _BLOCKS)


def _code(character: bytes) -> int:
    lead, middle, last = character
    return (lead & 0xF) << 12 | (middle & 0x3F) << 6 | last & 0x3F
