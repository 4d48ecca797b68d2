"""Ids as they are generated -> pieces of text that can be shown at once.

    engine -> id -> DECODE STREAM -> piece -> terminal, SSE

A token may end inside a character (한 is three bytes), inside a syllable (ᄒ + ᅡ + ᆫ are three characters)
or inside an emoji (👨‍👩‍👧 is five). What would show as half of a thing is held back until the rest is there.
Read next: tokenizer.py, whose `decode` is the law that this file obeys.
"""

import codecs
import re
from collections.abc import Collection

from malmoi.text.composition import compose, composed_length
from malmoi.text.hangul import LEADING, TRAILING, VOWELS
from malmoi.text.tokenizer import Tokenizer

MAX_HELD = 32
"""At most so many characters are held back. The longest emoji in use has 10, an old Hangul syllable 7."""

_PICTOGRAPHS = "\u2600-\u27bf\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
_EMOJI_MODIFIERS = "\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FLAG_LETTER = "[\U0001f1e6-\U0001f1ff]"
_JOINER = "\u200d"

# The end of a text that the next character could still change: the last grapheme cluster (UAX #29), but only
# of the kinds whose half is no readable whole. A composed syllable or a Latin letter never waits.
_UNSETTLED = re.compile(
    rf"([{LEADING}]+(?:[{VOWELS}]+[{TRAILING}]*)?)\Z"
    rf"|([{_PICTOGRAPHS}][{_EMOJI_MODIFIERS}]*(?:{_JOINER}[{_PICTOGRAPHS}]?[{_EMOJI_MODIFIERS}]*)*)\Z"
    rf"|(?<!{_FLAG_LETTER})(?:{_FLAG_LETTER}{{2}})*({_FLAG_LETTER})\Z"  # flags are pairs
)


class ByteStream:
    r"""Turns the bytes of a text into text as they come, in constant time each.

    Laws: the pieces and `finish()` together are `bytes.decode("utf-8", "replace")` of all bytes, in NFC if the text
    `is_composing`; no piece ends inside a UTF-8 character, a syllable of conjoining jamo or an emoji sequence; a
    composed syllable is given at once.

    >>> stream = ByteStream()
    >>> [stream.push(byte) for byte in (b"\xed", b"\x95", b"\x9c", b"a")]
    ['', '', '한', 'a']
    """

    def __init__(self, *, is_composing: bool = False) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")  # holds back half a character
        self._held = ""
        self._is_composing = is_composing

    def push(self, piece: bytes) -> str:
        """Take the next bytes; return the text that is now certain, often `""`."""
        text = self._held + self._utf8.decode(piece)
        end = _settled_length(text)
        if self._is_composing:
            end = min(end, composed_length(text))
        self._held = text[end:]
        return self._composed(text[:end])

    def finish(self) -> str:
        """Return what was held back, and begin a new text."""
        text = self._held + self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._held = ""
        return self._composed(text)

    def _composed(self, text: str) -> str:
        return compose(text) if self._is_composing else text


class Spelling:
    """The bytes that ids add to a text, one id at a time.

    Args:
        tokenizer: the one whose ids they are.
        skip_special: leave special tokens out, but for those that are `shown`.
        shown: the ids of special tokens that are read like others, as their own names.
        at_start: a text begins here; False if it goes on from a prompt, whose next word keeps its space.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = True,
        shown: Collection[int] = (),
        at_start: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        special = frozenset(tokenizer.special_tokens.values()) if skip_special else frozenset[int]()
        self._skipped = special - frozenset(shown)
        self._at_start = at_start

    def push(self, token_id: int) -> bytes:
        """Take the next id; return its bytes. Raises TokenizerError if it is outside of the vocabulary."""
        if token_id in self._skipped:
            return b""
        piece = self._tokenizer.token_bytes(token_id, at_start=self._at_start)
        self._at_start = False
        return piece

    def restart(self) -> None:
        """Begin a new text."""
        self._at_start = True


class DecodeStream:
    """Turns ids into text one at a time, in constant time each: `Spelling`, then `ByteStream`.

    Args:
        tokenizer: the one whose ids they are.
        skip_special: leave special tokens out.
        at_start: a text begins here; False if it goes on from a prompt, whose next word keeps its space.

    Laws: the pieces and `finish()` together are `tokenizer.decode(ids)`; no piece ends inside a UTF-8
    character, a syllable of conjoining jamo or an emoji sequence; a composed syllable is given at once. Bytes
    that never become a character come out as U+FFFD, as many as `decode` gives. A tokenizer of jamo gives a syllable
    when the next one begins: until then 하 may become 한.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> tokenizer = ByteTokenizer()
    >>> stream = DecodeStream(tokenizer)
    >>> [stream.push(i) for i in tokenizer.encode("한a")] + [stream.finish()]
    ['', '', '한', 'a', '']
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, at_start: bool = True) -> None:
        self._spelling = Spelling(tokenizer, skip_special=skip_special, at_start=at_start)
        self._bytes = ByteStream(is_composing=tokenizer.is_composing)

    def push(self, token_id: int) -> str:
        """Take the next id; return the text that is now certain, often `""`.

        Raises:
            TokenizerError: the id is outside of the vocabulary.
        """
        piece = self._spelling.push(token_id)
        return self._bytes.push(piece) if piece else ""

    def finish(self) -> str:
        """Return what was held back, and begin a new text."""
        self._spelling.restart()
        return self._bytes.finish()


def _settled_length(text: str) -> int:
    """How many characters of `text` can be shown, whatever follows."""
    unsettled = _UNSETTLED.search(text)
    if unsettled is None or unsettled.lastindex is None:
        return len(text)
    start = unsettled.start(unsettled.lastindex)
    return start if len(text) - start <= MAX_HELD else len(text)
