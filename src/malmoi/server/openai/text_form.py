"""How the choices of `/v1/completions` look: texts, or pieces of them, with the prompt before them if it is asked for.

Place in the flow: `completions.py` gives one to `OpenAIAnswer`. Read next: `form.py`.
"""

import codecs
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from malmoi.llm import LLM, Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.nn.stack import EncoderDecoder
from malmoi.server.answered import piece
from malmoi.server.errors import ServerError
from malmoi.server.openai.form import Form


class TextForm(Form):
    """The choices of a completion: texts, or pieces of them."""

    id_prefix, whole_kind, chunk_kind = "cmpl-", "text_completion", "text_completion"

    def __init__(self) -> None:
        self._offsets: dict[int, Offsets] = defaultdict(Offsets)

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": _logprobs(delta.logprobs, self._offsets[index]),
            "finish_reason": None,
        }

    def ended(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        return {
            "index": index,
            "text": completion.text,
            "logprobs": _logprobs(completion.logprobs or (), Offsets()),
            "finish_reason": completion.finish_reason,
        }


class Offsets:
    r"""Where tokens begin in a text, in characters, as they come. One inside of a character begins where that does.

    >>> def token(piece): return TokenLogprob(token=0, bytes=piece, logprob=-1.0, probability=1.0)
    >>> offsets = Offsets()
    >>> offsets.of([token(b"a"), token(b"\xea\xb0"), token(b"\x80")]), offsets.of([token(b"b")])
    ([0, 1, 1], [2])
    """

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._length = 0

    def of(self, tokens: Sequence[TokenLogprob]) -> list[int]:
        """The places of the next tokens."""
        places = []
        for token in tokens:
            places.append(self._length)
            self._length += len(self._utf8.decode(token.bytes))
        return places


@dataclass(frozen=True)
class Echo:
    """A prompt that is said again.

    Attributes:
        text: what it says.
        first: its first token, of which no likelihood is known, because nothing came before.
    """

    text: str
    first: TokenLogprob

    @classmethod
    def of(cls, prompt: str | list[int], llm: LLM) -> "Echo":
        """Raises ServerError for an encoder-decoder, whose prompt nothing predicts, and for an empty prompt."""
        if isinstance(llm.model, EncoderDecoder):
            raise ServerError(
                "this model reads a prompt and predicts none of it. Leave out echo.", param="echo"
            )
        ids = llm.builder.prompt_ids(prompt)
        if not ids:
            raise ServerError("the prompt has no token. Give it some, or leave out echo.", param="prompt")
        token = ids[0]
        opening = llm.tokenizer.token_bytes(token, at_start=True)
        text = prompt if isinstance(prompt, str) else llm.tokenizer.decode(prompt)
        return cls(text, TokenLogprob(token=token, bytes=opening, logprob=0.0, probability=1.0))


class EchoForm(TextForm):
    """The prompt before its answer; with likelihoods, those of its tokens too.

    Args:
        echoes: of each prompt.
        num_texts: that go on from each.
        read: for a stream: the likelihoods of each prompt's tokens, but of the first; nothing where none are asked for.
    """

    def __init__(
        self, echoes: Sequence[Echo], *, num_texts: int, read: Sequence[Sequence[TokenLogprob]] = ()
    ) -> None:
        super().__init__()
        self._echoes, self._num_texts, self._read = echoes, num_texts, read

    def opening(self, index: int) -> dict[str, Any]:
        place = index // self._num_texts
        logprobs = None
        if self._read:
            logprobs = _prompt_first([self._echoes[place].first, *self._read[place]], self._offsets[index])
        return {
            "index": index,
            "text": self._echoes[place].text,
            "logprobs": logprobs,
            "finish_reason": None,
        }

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        echo = self._echoes[index // self._num_texts]
        answer = {**super().whole(index, completion), "text": echo.text + completion.text}
        if completion.logprobs is not None:
            tokens = [echo.first, *(completion.prompt_logprobs or ()), *completion.logprobs]
            answer["logprobs"] = _prompt_first(tokens, Offsets())
        return answer


def _prompt_first(tokens: Sequence[TokenLogprob], offsets: Offsets) -> dict[str, Any]:
    """The likelihoods of tokens of which the first has none."""
    told = _logprobs(tokens, offsets)
    assert told is not None, "there is a first"
    told["token_logprobs"][0] = told["top_logprobs"][0] = None
    return told


def _logprobs(tokens: Sequence[TokenLogprob], offsets: Offsets) -> dict[str, Any] | None:
    """In OpenAI's older form: lists side by side. Of candidates that read alike the likeliest counts."""
    if not tokens:
        return None
    return {
        "tokens": list(map(piece, tokens)),
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{piece(one): one.logprob for one in reversed(token.top)} for token in tokens],
        "text_offset": offsets.of(tokens),
    }
