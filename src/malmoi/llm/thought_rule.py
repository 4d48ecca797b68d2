"""A bound on thoughts, and what is asked of an answer alone: one rule over ids that looks at a thought as it grows.

    [ thought, at most N tokens ] [ closing mark: forced ] [ answer: grammar, script lock ]

Place in the flow: `rules.py` makes one where a model thinks. Read next: `reasoning.py`, whose reader says where the
text has come to; `malmoi/engine/rules.py`.
"""

from collections.abc import Collection
from threading import Lock

import torch
from jaxtyping import Bool
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule
from malmoi.llm.reasoning import ThoughtFormat, ThoughtReader
from malmoi.text.stream import Spelling
from malmoi.text.tokenizer import Tokenizer


class ThoughtTokens:
    """The tokens of a vocabulary around a thought: its marks as ids, and which tokens run past the closing one.

    Args:
        tokenizer: whose ids they are.
        thoughts: whose marks they are.
        vocab_size: of the model; it is often rounded up.
        shown: the special tokens that are read as text, marks among them.
    """

    def __init__(
        self, tokenizer: Tokenizer, thoughts: ThoughtFormat, *, vocab_size: int, shown: Collection[int]
    ) -> None:
        self.tokenizer, self.format, self.vocab_size = tokenizer, thoughts, vocab_size
        self._spelling = Spelling(tokenizer, shown=shown, at_start=False)
        self._closing = thoughts.closing.encode()
        self._opening = tuple(tokenizer.encode_special(thoughts.opening))
        ids = range(min(tokenizer.vocab_size, vocab_size))
        # No other token runs past the mark: behind its last byte there is more.
        self._ends_mark = {
            token: text for token in ids if self._closing[-1:] in (text := self.bytes_of(token))[:-1]
        }
        self._within: dict[bytes, Tensor] = {}
        self._one_by_one = Lock()

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the text; nothing if the vocabulary has no such token."""
        return self._spelling.push(token) if token < self.tokenizer.vocab_size else b""

    def only(self, tokens: Collection[int]) -> Bool[Tensor, " V"]:
        """Nothing but these."""
        mask = torch.zeros(self.vocab_size, dtype=torch.bool)
        mask[list(tokens)] = True
        return mask

    def opening_behind(self, held: bytes) -> Collection[int]:
        """The tokens that go on with the opening mark, of which `held` is the beginning."""
        text, done = held.lstrip(), b""
        for token in self._opening:
            if text == done:
                return [token]
            done += self.bytes_of(token)
        return []

    def closing(self, reader: ThoughtReader) -> tuple[int, ...]:
        """What closes the thought, as the model has learned to: the rest of the mark if it has begun to."""
        begun = next(n for n in range(len(self._closing), -1, -1) if reader.held.endswith(self._closing[:n]))
        before = "" if begun or reader.held.endswith(b"\n") else self.format.before
        rest = self._closing[begun:].decode()
        return tuple(self.tokenizer.encode_special(before + rest + self.format.after))

    def gap(self) -> tuple[int, ...]:
        """What stands between the closing mark and the answer."""
        return tuple(self.tokenizer.encode_special(self.format.after))

    def within(self, held: bytes) -> Bool[Tensor, " V"]:
        """Behind `held`, the tokens that do not close the thought and go on in one: what follows is another rule's."""
        begun = next(
            held[-n:] if n else b""
            for n in range(min(len(held), len(self._closing) - 1), -1, -1)
            if self._closing.startswith(held[len(held) - n :])
        )
        with self._one_by_one:
            if begun not in self._within:
                beyond = [token for token, text in self._ends_mark.items() if self._runs_past(begun + text)]
                self._within[begun] = ~self.only(beyond)
            return self._within[begun]

    def _runs_past(self, text: bytes) -> bool:
        at = text.find(self._closing)
        return at >= 0 and at + len(self._closing) < len(text)


class BehindThought(LogitsRule):
    """Ends a thought in time, and lets `answer` say what comes behind it; where there is no thought, from the start.

    A thought has at most `budget` tokens (None: as many as it likes); then its closing mark is forced. If something is
    asked of the answer, no stop id ends the text inside of a thought.
    """

    def __init__(
        self,
        tokens: ThoughtTokens,
        reader: ThoughtReader,
        *,
        budget: int | None,
        answer: LogitsRule | None,
        stop_ids: frozenset[int],
    ) -> None:
        self._tokens, self._reader, self._budget, self._stop_ids = tokens, reader, budget, stop_ids
        self._fresh, self._answer = answer, None if answer is None else answer.copy()
        self._forced: tuple[int, ...] = ()
        self._force()

    def allowed(self) -> Bool[Tensor, " V"] | None:
        if self._forced:
            return self._tokens.only(self._forced[:1])
        if self._answer is None:
            return None
        if self._reader.place == "thought":
            ends = [token for token in self._stop_ids if token < self._tokens.vocab_size]
            return self._tokens.within(self._reader.held) & ~self._tokens.only(ends)
        if self._reader.place != "before":
            return self._answer.allowed()
        opening = self._tokens.only(self._tokens.opening_behind(self._reader.held))
        try:
            mask = self._answer.allowed()
        except RequestError:
            if not opening.any():
                raise
            return opening
        return None if mask is None else mask | opening

    def advance(self, token: int) -> None:
        before = self._reader.place
        is_forced = self._forced[:1] == (token,)  # a beginning may hold another, and a guess
        self._forced = self._forced[1:] if is_forced else ()
        if self._answer is not None and before != "thought" and not is_forced:
            self._answer.advance(token)
        self._reader.push(self._tokens.bytes_of(token))
        if is_forced:
            return
        if before == "before" and self._reader.place not in ("before", "answer"):
            self._answer = None if self._fresh is None else self._fresh.copy()
        if before == "thought" and self._reader.place == "gap" and self._answer is not None:
            self._forced = self._tokens.gap()
        self._force()

    def copy(self) -> "BehindThought":
        own = BehindThought(
            self._tokens,
            self._reader.copy(),
            budget=self._budget,
            answer=self._fresh,
            stop_ids=self._stop_ids,
        )
        own._answer = None if self._answer is None else self._answer.copy()
        own._forced = self._forced
        return own

    def _force(self) -> None:
        """Close the thought if it has had its tokens."""
        num_tokens = self._reader.num_tokens + self._reader.num_open
        if self._reader.place == "thought" and self._budget is not None and num_tokens >= self._budget:
            self._forced = self._tokens.closing(self._reader)
