"""Answers of a given form: a JSON Schema, a regular expression, a choice or a grammar becomes a rule over ids.

    SamplingParams -> GRAMMARS -> GrammarRule -> Request.rule -> engine

The automaton over bytes is `llguidance`'s, of the extra `guided` (docs/decisions/0008-guided-decoding.md). It knows
each token by its bytes, so half a syllable is a step like any other. Read next: `rules.py`, which hands the rule on.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule, SamplingParams
from malmoi.llm.spelling_rule import spelling_of
from malmoi.text.controls import any_of
from malmoi.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from malmoi.llm.tools import Calling

LONGEST_TEXT = 2**14
"""Characters of a regular expression or a grammar: the library's time grows with their square, here to 0.6 s."""

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As `json.dumps` writes. Free white space would let a model write it without end."""

_SUBSCHEMA = {
    "additionalProperties", "items", "additionalItems", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties", "contentSchema",
}  # fmt: skip
_SUBSCHEMAS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_NAMED_SUBSCHEMAS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_OTHER_KEYWORDS = {
    "type", "enum", "const", "required", "pattern", "format", "minLength", "maxLength", "minItems", "maxItems",
    "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "dependentRequired", "$ref", "$schema", "$id", "$anchor",
    "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
    "contentEncoding", "contentMediaType", "discriminator", "$dynamicRef", "$dynamicAnchor", "$recursiveRef",
    "$recursiveAnchor", "dependencies", "id",
}  # fmt: skip
_KEYWORDS = _SUBSCHEMA | _SUBSCHEMAS | _NAMED_SUBSCHEMAS | _OTHER_KEYWORDS
"""JSON Schema's, drafts 4 to 2020-12, and one hint of OpenAPI's. What of them it cannot do, the library says itself."""


class Grammars:
    r"""Compiles what a request says about the form of its answer, for one tokenizer.

    Args:
        tokenizer: whose ids the rules are over.
        vocab_size: of the model; it is often rounded up.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> tokenizer = ByteTokenizer()
    >>> grammars = Grammars(tokenizer, vocab_size=tokenizer.vocab_size)
    >>> rule = grammars.rule(SamplingParams(regex="네|아니요"), stop_ids={0})
    >>> [tokenizer.token_bytes(i) for i in rule.allowed().nonzero().flatten().tolist()]
    [b'\xeb', b'\xec']
    """

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._vocabularies: dict[tuple[frozenset[int], frozenset[int]], LLTokenizer] = {}

    def rule(self, params: SamplingParams, *, stop_ids: Iterable[int]) -> "GrammarRule | None":
        """The rule for json_schema, regex, choice or grammar; None if the answer is free. `stop_ids` end it.

        Raises RequestError if the extra is not installed, the grammar is wrong or beyond what the library does, or no
        text is of this form.
        """
        if params.form is None:
            return None
        name, value = params.form
        library = library_for(name)
        try:
            grammar = _source(library, name, value)
        except ValueError as problem:
            raise _refusal(name, value, problem) from None
        return self._rule(library, name, value, grammar, frozenset(stop_ids), frozenset())

    def of_calls(self, calling: "Calling", *, stop_ids: Iterable[int], shown: Iterable[int]) -> "GrammarRule":
        """The rule for the calls of tools, in which the special tokens that are `shown` are text.

        Raises RequestError as `rule` does.
        """
        library = library_for("tools")
        names = ", ".join(tool.name for tool in calling.tools)
        return self._rule(library, "tools", names, calling.grammar(), frozenset(stop_ids), frozenset(shown))

    def _rule(
        self,
        library: Any,
        name: str,
        value: object,
        grammar: str,
        ends: frozenset[int],
        shown: frozenset[int],
    ) -> "GrammarRule":
        if not ends:
            raise RequestError(
                f"{name} needs a token to end the answer with, and there are no stop ids. Give some."
            )
        matcher = library.LLMatcher(self._vocabulary(library, ends, shown), grammar, log_level=0)
        if matcher.is_error():
            raise _refusal(name, value, matcher.get_error())
        rule = GrammarRule(matcher, name, vocab_size=self._vocab_size)
        rule.copy().allowed()  # a form that no text has is refused now
        return rule

    def _vocabulary(self, library: Any, ends: frozenset[int], shown: frozenset[int]) -> "LLTokenizer":
        if (ends, shown) not in self._vocabularies:
            tokens = _Vocabulary(self._tokenizer, self._vocab_size, ends, shown)
            self._vocabularies[ends, shown] = library.LLTokenizer(
                library.TokenizerWrapper(tokens), n_vocab=self._vocab_size, eos_token=sorted(ends)
            )
        return self._vocabularies[ends, shown]


class GrammarRule(LogitsRule):
    """How far an answer has come in its grammar."""

    def __init__(self, matcher: "LLMatcher", name: str, *, vocab_size: int) -> None:
        self._matcher, self._name, self._vocab_size = matcher, name, vocab_size

    def allowed(self) -> Bool[Tensor, " V"]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise RequestError(
                f"{self._name} leaves no way to go on: {_gist(self._matcher.get_error())} Make it simpler, or "
                "check that some text is of this form."
            )
        mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little")
        return torch.from_numpy(mask).bool()

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)

    def copy(self) -> "GrammarRule":
        return GrammarRule(self._matcher.deep_copy(), self._name, vocab_size=self._vocab_size)


class _Vocabulary:
    """A tokenizer as `llguidance` asks for it."""

    bos_token_id = None

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Iterable[int], shown: Collection[int]
    ) -> None:
        names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
        size = min(tokenizer.vocab_size, vocab_size)
        self.tokens = [names[i].encode() if i in names else tokenizer.token_bytes(i) for i in range(size)]
        self.special_token_ids = [token_id for token_id in names if token_id < size and token_id not in shown]
        self.eos_token_id = min(stop_ids)
        self._tokenizer = tokenizer
        self._shown = {names[i]: i for i in shown}
        self._marks = any_of(self._shown)

    def __call__(self, text: str) -> list[int]:
        """The ids that are forced where a text is: plain text, and the tokens that are shown."""
        ids: list[int] = []
        end = 0
        for mark in self._marks.finditer(text):
            ids += [*self._spell(text[end : mark.start()]), self._shown[mark[0]]]
            end = mark.end()
        return [*ids, *self._spell(text[end:])]

    def _spell(self, text: str) -> Sequence[int]:
        ids = spelling_of(self._tokenizer, text)
        return self._tokenizer.encode(text) if ids is None else ids


def library_for(name: str) -> Any:
    """The library. Raises RequestError, for what `name` says, if it is not installed."""
    try:
        import llguidance
    except ImportError as problem:
        raise RequestError(f"{name} needs the extra: pip install 'malmoi[guided]'.") from problem
    return llguidance


def in_lark(text: str) -> str:
    r"""A string in Lark's notation.

    >>> print(in_lark('"가"'))
    "\"가\""
    """
    # JSON leaves \x7f as it is, and Lark does not read that.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _source(library: Any, name: str, value: str | tuple[str, ...]) -> str:
    """The grammar as the library reads it. Raises ValueError for what is none."""
    if name in ("regex", "grammar") and len(value) > LONGEST_TEXT:
        raise ValueError(f"it has {len(value):,} characters, and {LONGEST_TEXT:,} are the most")
    match name, value:
        case "json_schema", str():
            return str(library.LLMatcher.grammar_from_json_schema(_checked(value), overrides=JSON_STYLE))
        case "regex", str():
            if (len(value) - len(value.rstrip("\\"))) % 2:  # the library would drop it
                raise ValueError("it ends with a backslash that nothing follows")
            return f"start: /{library.regex_to_lark(value, 'd')}/"
        case "choice", tuple():
            return str(library.LLMatcher.grammar_from_lark(f"start: {' | '.join(map(in_lark, value))}"))
        case _:
            return str(library.grammar_from("grammar", value))


def _checked(text: str) -> dict[str, Any]:
    """The schema, if each keyword in it is known: a misspelt one would mean nothing. Raises ValueError."""
    try:
        schema = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(schema, dict):
        raise ValueError("it is not an object")
    check_keywords(schema)
    return schema


def check_keywords(schema: Mapping[str, Any]) -> None:
    """Raise ValueError for a keyword that JSON Schema does not know, wherever it stands."""
    unread: list[object] = [schema]
    while unread:
        part = unread.pop()
        for keyword, value in part.items() if isinstance(part, Mapping) else ():
            if keyword not in _KEYWORDS:
                near = get_close_matches(keyword, sorted(_KEYWORDS), n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown keyword {keyword!r:.80}.{hint}")
            if keyword in _SUBSCHEMA:
                unread += value if isinstance(value, list) else [value]
            elif keyword in _SUBSCHEMAS and isinstance(value, list):
                unread += value
            elif keyword in _NAMED_SUBSCHEMAS and isinstance(value, Mapping):
                unread += value.values()


def _refusal(name: str, value: object, problem: object) -> RequestError:
    return RequestError(
        f"{name}={value!r:.80} cannot be followed: {_gist(str(problem))} Correct it, or say it in a simpler way."
    )


def _gist(text: str) -> str:
    """The line that says it: the library draws a picture around it."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith("error: ")), lines[0]).removeprefix("error: ")
    return line if line.endswith((".", "?")) else f"{line}."
