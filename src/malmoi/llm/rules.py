"""What a request says about its text, as one rule over ids for the engine.

    SamplingParams -> RULES -> GrammarRule | ScriptRule | both -> Request.rule

Read next: `grammar.py` and `script_lock.py`, the two kinds.
"""

from threading import Lock

from malmoi.engine import LogitsRule, SamplingParams
from malmoi.engine.rules import AllOf
from malmoi.llm.grammar import Grammars
from malmoi.llm.script_lock import ScriptLock
from malmoi.text.tokenizer import Tokenizer

MOST_LOCKS = 8
"""Each knows all tokens of the vocabulary, and whoever asks names the scripts: more are not kept."""


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
        self._one_by_one = Lock()

    def rule(self, params: SamplingParams, *, stop_ids: frozenset[int]) -> LogitsRule | None:
        """What `params` want of the text, but for stop strings; None if that is nothing.

        In an answer of a given form, Latin is not counted: the keys of an object are as the caller wants them.
        Raises RequestError for a form or a script that cannot be had.
        """
        if params.form is None and not params.script_lock:
            return None
        with self._one_by_one:
            return self._rule(params, stop_ids=stop_ids)

    def _rule(self, params: SamplingParams, *, stop_ids: frozenset[int]) -> LogitsRule:
        rules: list[LogitsRule] = []
        if grammar := self._grammars.rule(params, stop_ids=stop_ids):
            rules.append(grammar)
        if scripts := frozenset(params.script_lock):
            share = 1.0 if grammar else params.latin_share
            rules.append(self._lock(scripts).rule(stop_ids=stop_ids, latin_share=share))
        return AllOf(rules) if len(rules) > 1 else rules[0]

    def _lock(self, scripts: frozenset[str]) -> ScriptLock:
        lock = self._locks.pop(scripts, None) or ScriptLock(
            self._tokenizer, scripts, vocab_size=self._vocab_size
        )
        self._locks[scripts] = lock  # at the end: the first is the one that was asked for longest ago
        if len(self._locks) > MOST_LOCKS:
            del self._locks[next(iter(self._locks))]
        return lock
