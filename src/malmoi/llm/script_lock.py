"""Which scripts an answer is written in: a Korean answer without Chinese, Japanese or Russian, and not drifting into
English.

    SamplingParams.script_lock -> SCRIPT LOCK -> ScriptRule -> Request.rule -> engine

Two levels. A script that is not named never comes: its tokens, and bytes that could only begin one of its characters,
are masked. Latin and Greek are what names, code and formulas are made of, so they are counted instead, word by word.
Read next: `text/scripts.py`, what a script is; `rules.py`, which hands the rule on.
"""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule
from malmoi.text.scripts import UNASSIGNED, characters_of
from malmoi.text.tokenizer import Tokenizer

COUNTED = frozenset({"latin", "greek"})
"""The scripts that pass in part."""
WORDS_GRANTED = 10
"""An answer is judged as if so many words of its own scripts came before: at a share of 0.3, four foreign ones may."""
LONGEST_WORD = 20
"""A run of letters that goes on behind a token that brought it to this length counts as another word."""

_CONTINUATION = range(0x80, 0xC0)
_LEAST_CODE_POINT = {2: 0x80, 3: 0x800, 4: 0x10000}
"""Of a UTF-8 character by its length: smaller ones are not written so."""


class ScriptLock:
    """What the tokens of a vocabulary are made of, for a set of scripts. Compiled once, shared by all answers.

    A word is a run of letters of counted scripts, or of those that are named: "PyTorch는 좋다" has three, one of them
    foreign. A foreign word may begin if afterwards foreign <= latin_share * (WORDS_GRANTED + words). In fenced code,
    from a line that begins with ``` to the next, nothing is counted; a word in single backticks is one like any other.

    Control tokens, and added ones such as <think>, say nothing and pass. Under a lock the text is always valid UTF-8:
    no token ends inside a character that no other could complete.

    Args:
        tokenizer: whose tokens they are.
        scripts: the names of the scripts that pass freely, as Unicode calls them; Chinese characters are "han".
        vocab_size: of the model; ids without text never come.

    Raises RequestError for a script that there is not.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> tokenizer = ByteTokenizer()
    >>> lock = ScriptLock(tokenizer, ["hangul"], vocab_size=tokenizer.vocab_size)
    >>> rule = lock.rule(stop_ids=[0], latin_share=0.3)
    >>> 漢, 한 = tokenizer.encode("漢"), tokenizer.encode("한")
    >>> rule.advance(한[0])                                    # e6 begins only Chinese characters, ed also 한
    >>> rule.allowed()[한[1]].item(), rule.copy().allowed()[漢[0]].item()
    (True, False)
    """

    def __init__(self, tokenizer: Tokenizer, scripts: Iterable[str], *, vocab_size: int) -> None:
        every, scripts = characters_of(), frozenset(scripts)
        for script in sorted(scripts):
            if script not in every or script == UNASSIGNED:
                raise _no_script(script, every)
        self._counted = frozenset().union(*(every[script] for script in COUNTED - scripts))
        self._own = frozenset().union(*(every[script] for script in scripts))
        self._passing = every[None] | self._own | self._counted
        self._is_passing, self._is_uncounted = (
            np.isin(np.arange(0x110000), [ord(character) for character in characters])
            for characters in (self._passing, self._passing - self._counted)
        )
        self._vocab_size = vocab_size
        self._silent = frozenset(tokenizer.special_tokens.values()) | _markup(tokenizer)
        ids = [i for i in range(min(tokenizer.vocab_size, vocab_size)) if i not in self._silent]
        self._bytes = {i: piece for i in ids if (piece := tokenizer.token_bytes(i))}
        self._goes_on = {i: piece for i, piece in self._bytes.items() if piece[0] in _CONTINUATION}
        self._has_bytes = all(bytes([byte]) in self._goes_on.values() for byte in _CONTINUATION)
        self._steps = {b"": self._step(b"", self._bytes.items() - self._goes_on.items())}
        self._masks: dict[tuple[bool, bool, int, frozenset[int]], Tensor] = {}

    def rule(self, *, stop_ids: Iterable[int], latin_share: float) -> "ScriptRule":
        """The rule of one answer, which may end with `stop_ids`."""
        return ScriptRule(self, frozenset(stop_ids), latin_share)

    def read(self, token: int, so_far: "Reading") -> "Reading":
        """The text one token further."""
        text, pending = _decoded(so_far.pending + self._bytes.get(token, b""), errors="replace")
        reading = so_far
        for one in text:
            reading = reading.beyond(one, is_counted=one in self._counted, is_own=one in self._own)
        is_long = reading.word_length >= LONGEST_WORD
        return replace(reading, pending=pending, word_length=0 if is_long else reading.word_length)

    def mask(self, reading: "Reading", *, room: float, stop_ids: frozenset[int]) -> Bool[Tensor, " V"]:
        """True for each token that may come behind `reading`, if `room` more foreign words may begin."""
        if reading.pending not in self._steps:
            self._steps[reading.pending] = self._step(reading.pending, self._goes_on.items())
        step = self._steps[reading.pending]
        most = int(min(max(room, 0), step.most_words))
        if reading.pending:  # there are many such places, each with few tokens
            return self._new_mask(step.ids[step.counted(reading) <= most])
        state = (reading.word_length > 0, reading.is_code, most, stop_ids)
        if state not in self._masks:
            between = [token for token in (*self._silent, *stop_ids) if token < self._vocab_size]
            self._masks[state] = self._new_mask(step.ids[step.counted(reading) <= most], between)
        return self._masks[state]

    def _new_mask(self, *ids: ArrayLike) -> Bool[Tensor, " V"]:
        mask = np.zeros(self._vocab_size, dtype=np.bool_)
        for some in ids:
            mask[np.asarray(some, dtype=np.int64)] = True
        return torch.from_numpy(mask)

    def _step(self, pending: bytes, tokens: Iterable[tuple[int, bytes]]) -> "_Step":
        """What `tokens` make of the beginning of a character."""
        kept = []
        for token, piece in tokens:
            try:
                text, rest = _decoded(pending + piece, errors="strict")
            except UnicodeDecodeError:
                continue
            if self._passing.issuperset(text) and (not rest or self._is_begun(rest, self._is_passing)):
                is_counted = [character in self._counted for character in text]
                if rest:  # if nothing else can come of it, the foreign letter counts now
                    is_counted.append(not self._is_begun(rest, self._is_uncounted))
                begins = [now and not before for before, now in pairwise([False, *is_counted])]
                kept.append((token, sum(begins), begins[0], "`" in text))
        return _Step(*np.array(kept, dtype=np.int64).reshape(-1, 4).T)

    def _is_begun(self, beginning: bytes, characters: NDArray[np.bool_]) -> bool:
        """One of the characters begins with these bytes, and tokens of one byte are there for the rest of it."""
        lead = beginning[0]
        length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        value = lead & (0x7F >> length)
        for byte in beginning[1:]:
            value = value << 6 | byte & 0x3F
        shift = 6 * (length - len(beginning))
        first = max(value << shift, _LEAST_CODE_POINT[length])
        return self._has_bytes and bool(characters[first : (value + 1) << shift].any())


@dataclass(frozen=True)
class _Step:
    """The tokens that pass at some place, and of each: how many foreign words it has; whether it begins with a foreign
    letter, and has a backtick, 0 or 1.
    """

    ids: NDArray[np.int64]
    num_words: NDArray[np.int64]
    joins: NDArray[np.int64]
    has_tick: NDArray[np.int64]

    @cached_property
    def most_words(self) -> int:
        return int(self.num_words.max(initial=0))

    def counted(self, reading: "Reading") -> NDArray[np.int64]:
        """How many foreign words each token begins behind `reading`."""
        begun = self.num_words - self.joins if reading.word_length else self.num_words
        # Without a backtick a token cannot leave the code.
        return begun * self.has_tick if reading.is_code else begun


@dataclass(frozen=True)
class Reading:
    """How far a text has been read, and what was counted.

    `pending` is the beginning of a character; `word_length` how many letters the foreign word has in which the text
    ends, 0 outside of one; `num_ticks` how many backticks the line began with, None if it began with something else.
    """

    pending: bytes = b""
    num_foreign: int = 0
    num_words: int = 0
    word_length: int = 0
    is_in_own_word: bool = False
    is_code: bool = False
    num_ticks: int | None = 0

    def beyond(self, character: str, *, is_counted: bool, is_own: bool) -> "Reading":
        """The text one character further."""
        num_ticks, is_code = self.num_ticks, self.is_code
        if character == "\n":
            num_ticks = 0
        elif num_ticks is not None and character == "`":
            num_ticks += 1
            is_code ^= num_ticks == 3
        elif num_ticks != 0 or character != " ":
            num_ticks = None
        letter_of_word = is_counted and not is_code
        begins = letter_of_word and not self.word_length
        begins_own = is_own and not is_code and not self.is_in_own_word
        return Reading(
            num_foreign=self.num_foreign + begins,
            num_words=self.num_words + begins + begins_own,
            word_length=self.word_length + 1 if letter_of_word else 0,
            is_in_own_word=is_own and not is_code,
            is_code=is_code,
            num_ticks=num_ticks,
        )


class ScriptRule(LogitsRule):
    """How far one answer has come under a lock."""

    def __init__(
        self, lock: ScriptLock, stop_ids: frozenset[int], latin_share: float, reading: Reading | None = None
    ) -> None:
        self._lock, self._stop_ids, self._latin_share = lock, stop_ids, latin_share
        self._reading = reading or Reading()

    def allowed(self) -> Bool[Tensor, " V"]:
        room = float("inf")
        if (share := self._latin_share) < 1:
            # n more: num_foreign + n <= share * (granted + num_words + n)
            granted = share * (WORDS_GRANTED + self._reading.num_words)
            room = (granted - self._reading.num_foreign) / (1 - share) + 1e-9  # rounding takes no word away
        return self._lock.mask(self._reading, room=room, stop_ids=self._stop_ids)

    def advance(self, token: int) -> None:
        self._reading = self._lock.read(token, self._reading)

    def copy(self) -> "ScriptRule":
        return ScriptRule(self._lock, self._stop_ids, self._latin_share, self._reading)


def _markup(tokenizer: Tokenizer) -> frozenset[int]:
    """The added tokens that frame text, such as <think>, even if the file does not call them special."""
    added = tokenizer.backend.get_added_tokens_decoder()
    return frozenset(i for i, token in added.items() if re.fullmatch(r"[<\[].*[>\]]", token.content))


def _no_script(script: str, scripts: Iterable[str | None]) -> RequestError:
    near = get_close_matches(script, filter(None, scripts), n=1, cutoff=0.7)
    hint = f"Did you mean {near[0]!r}?" if near else "Name one as Unicode does: 'hangul', 'latin', 'han'."
    return RequestError(f"script_lock={script!r} is not a script. {hint}")


def _decoded(piece: bytes, *, errors: str) -> tuple[str, bytes]:
    """The whole characters, and the beginning of one behind them; `errors` says what to do with what is no UTF-8."""
    text, length = codecs.utf_8_decode(piece, errors, False)
    return text, piece[length:]
