"""What a request says about its text, as one rule over ids for the engine.

    SamplingParams, Calling -> RULES -> GrammarRule, ScriptRule -> behind a thought: BehindThought -> Request.rule

Read next: `grammar.py` and `script_lock.py`, the two kinds; `thought_rule.py`, which lets them begin when a thought has
ended.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from threading import Lock

from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule, SamplingParams
from malmoi.engine.rules import AllOf, AnyOf
from malmoi.llm.grammar import Grammars
from malmoi.llm.reasoning import ThoughtFormat, ThoughtReader
from malmoi.llm.script_lock import ScriptLock
from malmoi.llm.spelling_rule import OneSpelling, spelling_of
from malmoi.llm.thought_rule import BehindThought, ThoughtTokens
from malmoi.llm.tools import Calling
from malmoi.text.tokenizer import Tokenizer

MOST_LOCKS = 8
"""Each knows all tokens of the vocabulary, and whoever asks names the scripts: more are not kept."""


def can_follow_grammars() -> bool:
    """Whether the extra `guided` is installed."""
    return find_spec("llguidance") is not None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known of an answer before it begins, besides its parameters.

    Attributes:
        thoughts: where it begins: in a thought, before one, or behind; and how its model thinks.
        thought_budget: at most so many tokens of thought.
        calling: what it may call.
        shown: the special tokens that are read as text.
        is_begun: whether a part of it is given, which may be spelled in any way.
    """

    thoughts: ThoughtReader = field(default_factory=lambda: ThoughtReader(None))
    thought_budget: int | None = None
    calling: Calling | None = None
    shown: frozenset[int] = frozenset()
    is_begun: bool = False

    @property
    def is_free(self) -> bool:
        """Whether nothing of it needs a rule."""
        return self.calling is None and self.thought_budget is None


class Rules:
    """Makes the rules of a model's requests; what is compiled for a set of scripts is kept for the next ones.

    Several threads may ask, and are served one by one.

    Args:
        tokenizer: whose ids they are over.
        vocab_size: of the model; it is often rounded up.
    """

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._grammars = Grammars(tokenizer, vocab_size=vocab_size)
        self._locks: dict[frozenset[str], ScriptLock] = {}
        self._thought_tokens: dict[tuple[ThoughtFormat, frozenset[int]], ThoughtTokens] = {}
        self._one_by_one = Lock()

    def rule(
        self, params: SamplingParams, expected: Expected, *, stop_ids: frozenset[int]
    ) -> LogitsRule | None:
        """What `params` want of the text, but for stop strings, and what its calls need; None if that is nothing.

        In an answer of a given form, and where tools may be called, Latin is not counted: the keys of an object are as
        the caller wants them. Raises RequestError for a form, a script or calls that cannot be had.
        """
        if params.form is None and not params.script_lock and expected.is_free:
            return None
        with self._one_by_one:
            answer = self._answer(params, expected, stop_ids=stop_ids)
            thoughts = expected.thoughts.format
            if thoughts is None or expected.thoughts.place in ("gap", "answer"):
                return answer
            if expected.thought_budget is None and (answer is None or not thoughts.is_taught):
                return answer
            return BehindThought(
                self._tokens(thoughts, expected.shown),
                expected.thoughts.copy(),
                budget=expected.thought_budget,
                answer=answer,
                stop_ids=stop_ids,
            )

    def _answer(
        self, params: SamplingParams, expected: Expected, *, stop_ids: frozenset[int]
    ) -> LogitsRule | None:
        form = self._form(params, expected, stop_ids=stop_ids)
        rules = [] if form is None else [form]
        if scripts := frozenset(params.script_lock):
            share = params.latin_share if form is None else 1.0
            rules.append(self._lock(scripts).rule(stop_ids=stop_ids, latin_share=share))
        return AllOf(rules) if len(rules) > 1 else next(iter(rules), None)

    def _form(
        self, params: SamplingParams, expected: Expected, *, stop_ids: frozenset[int]
    ) -> LogitsRule | None:
        """The form that is asked for, or calls; where both may come, either."""
        calling = expected.calling
        if calling is None or not (calling.is_required or can_follow_grammars()):
            return self._given_form(params, expected, stop_ids=stop_ids)
        if calling.is_required and params.form is not None:
            raise RequestError(
                f"{params.form[0]} says what an answer looks like, and tool_choice wants calls in its place. Leave one "
                "out."
            )
        if params.ignore_eos:
            raise RequestError(
                "ignore_eos=True and tools contradict each other: an answer with calls ends with a stop id. Leave one "
                "out."
            )
        other = self._given_form(params, expected, stop_ids=stop_ids)
        if other is not None:
            calling = calling.required()
        calls = self._grammars.of_calls(calling, stop_ids=stop_ids, shown=expected.shown)
        return calls if other is None else AnyOf([calls, other])

    def _given_form(
        self, params: SamplingParams, expected: Expected, *, stop_ids: frozenset[int]
    ) -> LogitsRule | None:
        """The form of `params`; a search among texts finds each once, if the tokenizer can spell them all."""
        form = self._grammars.rule(params, stop_ids=stop_ids)
        if form is None or not params.choice or params.beam_width == 1 or expected.is_begun:
            return form
        spellings = [spelling_of(self._tokenizer, text) for text in params.choice]
        known = [spelling for spelling in spellings if spelling is not None]
        if len(known) < len(spellings) or max(chain(*known), default=0) >= self._vocab_size:
            return form
        ends = [token for token in stop_ids if token < self._vocab_size]
        return OneSpelling(known, ends=ends, vocab_size=self._vocab_size)

    def _tokens(self, thoughts: ThoughtFormat, shown: frozenset[int]) -> ThoughtTokens:
        if (thoughts, shown) not in self._thought_tokens:
            self._thought_tokens[thoughts, shown] = ThoughtTokens(
                self._tokenizer, thoughts, vocab_size=self._vocab_size, shown=shown
            )
        return self._thought_tokens[thoughts, shown]

    def _lock(self, scripts: frozenset[str]) -> ScriptLock:
        lock = self._locks.pop(scripts, None) or ScriptLock(
            self._tokenizer, scripts, vocab_size=self._vocab_size
        )
        self._locks[scripts] = lock  # at the end: the first is the one that was asked for longest ago
        if len(self._locks) > MOST_LOCKS:
            del self._locks[next(iter(self._locks))]
        return lock
