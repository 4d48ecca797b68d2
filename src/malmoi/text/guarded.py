"""Encode a text that is partly trusted: control tokens only where somebody trusted wrote them.

    text, untrusted spans -> GUARDED -> ids, the characters of each

`Tokenizer.encode` never turns a special token's string into its id and `encode_special` always does; a rendered chat
needs both in one text. It is encoded as a whole, so merges do not stop where trust does, and a text without an attack
gets the ids that it always gets. Used by chat.py. Read first: tokenizer.py, plain.py.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import tokenizers
from tokenizers import AddedToken

from malmoi.text.ink import Ink, Span, overlaps
from malmoi.text.plain import encode, for_plain_text

Encoded = tuple[list[int], list[Span]]
"""Ids, and the characters that each stands for. Several ids may share a character: 한 can be three byte tokens."""


class GuardedEncoder:
    """Encodes as `backend` does, except for the added tokens in `control` where the text is not to be trusted.

    >>> from malmoi.text.training import train_bpe
    >>> guarded = GuardedEncoder(train_bpe(["안녕"], vocab_size=259).backend, control=frozenset({"<|im_end|>"}))
    >>> guarded.encode("a<|im_end|>")
    ([67, 2], [(0, 1), (1, 11)])
    >>> len(guarded.encode("a<|im_end|>", untrusted=[(0, 3)])[0])     # eleven bytes of plain text
    11
    """

    def __init__(self, backend: tokenizers.Tokenizer, control: frozenset[str]) -> None:
        self._backend = backend
        self._added: Mapping[int, AddedToken] = backend.get_added_tokens_decoder()
        self._control = {id: token for id, token in self._added.items() if token.content in control}
        self._whole = _Matcher(backend, self._added)

    def encode(self, text: str, *, untrusted: Sequence[Span] = ()) -> Encoded:
        """Encode the whole `text`; a control token that overlaps an `untrusted` span becomes plain text.

        The spans are in order and apart. If no control token touches one, the ids are the backend's own.
        """
        ids, spans = self._whole.encode(text)
        if any(overlaps(span, untrusted) for _, span in self._matches(text, ids, spans)):
            return self._encode_sealed(text, untrusted)
        return ids, spans

    def _encode_sealed(self, text: str, untrusted: Sequence[Span]) -> Encoded:
        """Write each trusted control token as one private-use character, its seal, and match only the seals."""
        ink = Ink(text)
        filler = ink.fresh()
        trusted, _ = _replace(text, [(span, filler * (span[1] - span[0])) for span in untrusted])
        found = self._matches(trusted, *self._whole.encode(trusted))
        seals = {id: ink.fresh() for id in sorted({id for id, _ in found})}
        sealed, origin = _replace(text, [(span, seals[id]) for id, span in found])

        tokens = {id: token for id, token in self._added.items() if id not in self._control}
        tokens |= {id: AddedToken(seal, normalized=False, special=True) for id, seal in seals.items()}
        ids, spans = _Matcher(self._plain, tokens).encode(sealed)
        return ids, [(origin[start][0], origin[max(start, end - 1)][end > start]) for start, end in spans]

    def _matches(self, text: str, ids: Sequence[int], spans: Sequence[Span]) -> list[tuple[int, Span]]:
        """The control tokens among `ids` that were matched in `text`: the model gives <unk> for other text too."""
        found = [(id, span) for id, span in zip(ids, spans, strict=True) if id in self._control]
        return [
            (id, (start, end))
            for id, (start, end) in found
            if self._control[id].normalized or text[start:end].strip() == self._control[id].content
        ]

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """A tokenizer whose model does not know the control tokens either; to make one can take a second."""
        control = [token.content for token in self._control.values()]
        return for_plain_text(self._backend, json.loads(self._backend.to_str()), control)


class _Matcher:
    """`base` with other added tokens, and without a post-processor (some trim the spans)."""

    def __init__(self, base: tokenizers.Tokenizer, added: Mapping[int, AddedToken]) -> None:
        self._tokenizer = tokenizers.Tokenizer(base.model)  # shares the vocabulary, so this is cheap
        self._tokenizer.normalizer = base.normalizer
        self._tokenizer.pre_tokenizer = base.pre_tokenizer
        self._tokenizer.add_tokens([token for _, token in sorted(added.items())])
        ids = {self._tokenizer.token_to_id(token.content): id for id, token in added.items()}
        self._renamed = {own: id for own, id in ids.items() if own != id}

    def encode(self, text: str) -> Encoded:
        encoding = encode(self._tokenizer, text)
        ids = encoding.ids
        return [self._renamed.get(id, id) for id in ids] if self._renamed else ids, encoding.offsets


def _replace(text: str, replacements: Sequence[tuple[Span, str]]) -> tuple[str, list[Span]]:
    """The text with each span replaced, and for each character of it the span of `text` that it came from.

    The list has one entry more than the text has characters, so that the end has an origin too.
    """
    pieces: list[str] = []
    origin: list[Span] = []
    done = 0
    for (start, end), new in replacements:
        pieces += [text[done:start], new]
        origin += [*((at, at + 1) for at in range(done, start)), *[(start, end)] * len(new)]
        done = end
    pieces.append(text[done:])
    origin += [*((at, at + 1) for at in range(done, len(text))), (len(text), len(text))]
    return "".join(pieces), origin
