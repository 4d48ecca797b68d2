"""A model that recites, for the Hangul contract: a server of it, and how each protocol is asked and heard.

The model says ids that it was given, whatever it is asked: the number of an answer is the `max_tokens` of its request,
which every protocol has. So a test decides what is said, token by token, and looks at what comes.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Shaped
from tests.server.conftest import HELLO, Serve, Served
from torch import Tensor, nn

from malmoi.engine import Generation, Request
from malmoi.llm import LLM
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer

NAMED = re.compile(r" ?(\[UNK\]|</s>|<\|im_end\|>)")
"""Tokens that have a name, and add nothing to a text."""


class Table(nn.Module):
    """From a place to logits that say which token is there."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.script = torch.tensor(script)
        self.vocab_size = vocab_size

    def forward(self, places: Float[Tensor, "... 1"]) -> Float[Tensor, "... V"]:
        wanted = self.script[places[..., 0].long().clamp_max(len(self.script) - 1)]
        return nn.functional.one_hot(wanted, self.vocab_size).float() * 30.0


class Reciter(Decoder):
    """Says `script[place]` behind any token at a place: where a prompt ends decides what its answer is."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        super().__init__(
            embedding=nn.Embedding(1, 1),
            blocks=[],
            head=Table(script, vocab_size),
            vocab_size=vocab_size,
            max_positions=len(script) + 8,
        )

    def embed(
        self, inputs: Shaped[Tensor, "B T"], context: Context
    ) -> tuple[Float[Tensor, "B T 1"], Context]:
        return context.positions[..., None].float(), context


@dataclass(frozen=True)
class Heard:
    """What came of a stream: the pieces of its text, why it ended, and the bytes of its tokens, if they were told."""

    pieces: list[str]
    reason: str
    spelled: bytes = b""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Dialect(ABC):
    """How an endpoint is asked for an answer, and heard."""

    path: str
    likelihoods: Mapping[str, Any] = MappingProxyType({})
    """What asks for those of the tokens, with their bytes, where an endpoint tells them."""
    has_stop = True
    stopped = "stop"
    """Why an answer ends that ends as it should."""
    stopped_early = "stop"
    """And one that ends before a string that was asked for."""

    @abstractmethod
    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        """A request for the answer of a number."""

    @abstractmethod
    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        """What a stream said."""

    @abstractmethod
    def whole(self, answer: dict[str, Any]) -> str:
        """The text of an answer in one piece."""


class Chat(Dialect):
    path = "/v1/chat/completions"
    likelihoods = MappingProxyType({"logprobs": True})

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        return {"messages": HELLO, "temperature": 0, "max_tokens": number, "stop": list(stop)}

    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        choices = [choice for event in events for choice in event["choices"]]
        tokens = [token for one in choices if one["logprobs"] for token in one["logprobs"]["content"]]
        return Heard(
            [choice["delta"].get("content") or "" for choice in choices],
            choices[-1]["finish_reason"],
            b"".join(bytes(token["bytes"] or ()) for token in tokens),
        )

    def whole(self, answer: dict[str, Any]) -> str:
        return str(answer["choices"][0]["message"]["content"])


class Completions(Dialect):
    path = "/v1/completions"
    likelihoods = MappingProxyType({"logprobs": 0})

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        return {"prompt": "말", "temperature": 0, "max_tokens": number, "stop": list(stop)}

    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        choices = [choice for event in events for choice in event["choices"]]
        tokens = [token for one in choices if one["logprobs"] for token in one["logprobs"]["tokens"]]
        spelled = b"".join(_bytes(token) for token in tokens if not NAMED.fullmatch(token))
        return Heard([choice["text"] for choice in choices], choices[-1]["finish_reason"], spelled)

    def whole(self, answer: dict[str, Any]) -> str:
        return str(answer["choices"][0]["text"])


class Messages(Dialect):
    path = "/v1/messages"
    stopped, stopped_early = "end_turn", "stop_sequence"

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        return {"messages": HELLO, "temperature": 0, "max_tokens": number, "stop_sequences": list(stop)}

    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        deltas = [event["delta"] for event in events if event["type"].endswith("_delta")]
        *texts, ending = deltas
        return Heard([delta["text"] for delta in texts], ending["stop_reason"])

    def whole(self, answer: dict[str, Any]) -> str:
        return "".join(block["text"] for block in answer["content"])


class OllamaChat(Dialect):
    path = "/api/chat"
    likelihoods = MappingProxyType({"logprobs": True})

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        options = {"temperature": 0, "num_predict": number, "stop": list(stop)}
        return {"model": "default", "messages": HELLO, "options": options}

    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        lines = list(events)
        tokens = [token for line in lines for token in line.get("logprobs") or ()]
        spelled = b"".join(bytes(token["bytes"] or ()) for token in tokens)
        return Heard([self.whole(line) for line in lines], lines[-1]["done_reason"], spelled)

    def whole(self, answer: dict[str, Any]) -> str:
        return str(answer["message"]["content"])


class OllamaGenerate(OllamaChat):
    path = "/api/generate"

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        options = {"temperature": 0, "num_predict": number, "stop": list(stop)}
        return {"model": "default", "prompt": "안녕?", "options": options}

    def whole(self, answer: dict[str, Any]) -> str:
        return str(answer["response"])


class Responses(Dialect):
    path = "/v1/responses"
    has_stop = False
    stopped = "completed"

    def body(self, number: int, stop: Sequence[str]) -> dict[str, Any]:
        return {"input": "안녕?", "temperature": 0, "max_output_tokens": number, "store": False}

    def heard(self, events: Iterable[dict[str, Any]]) -> Heard:
        events = list(events)
        pieces = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        last = events[-1]["response"]
        assert self.whole(last) == "".join(pieces)
        return Heard(pieces, last["status"])

    def whole(self, answer: dict[str, Any]) -> str:
        return "".join(part["text"] for item in answer["output"] for part in item["content"])


DIALECTS = [Chat(), Completions(), Messages(), OllamaChat(), OllamaGenerate(), Responses()]


class Recital:
    """A server of a model whose k-th answer is the k-th of `texts`, `num_tokens` at a time."""

    def __init__(
        self, serve: Serve, tokenizer: Tokenizer, texts: Sequence[str], *, num_tokens: int = 1
    ) -> None:
        special = tokenizer.special_tokens
        end = special["<|im_end|>"] if "<|im_end|>" in special else special["</s>"]
        self.tokenizer = tokenizer
        self.ids = [tokenizer.encode(text) for text in texts]
        script = [token for ids in self.ids for token in (*ids, end)]
        starts = [0]
        for ids in self.ids:
            starts.append(starts[-1] + len(ids) + 1)
        template = ChatTemplate("{% for message in messages %}{{ message['content'] }}{% endfor %}")
        llm = LLM(Reciter(script, tokenizer.vocab_size), tokenizer, template=template, stop_ids=[end])
        add, step = llm.engine.add, llm.engine.step

        def add_at_its_place(request: Request) -> Generation:
            number = request.params.max_tokens
            assert number is not None
            params = replace(request.params, max_tokens=None)
            return add(replace(request, tokens=[end] * (starts[number - 1] + 1), params=params))

        def steps() -> None:
            for _ in range(num_tokens):
                step()

        llm.engine.add, llm.engine.step = add_at_its_place, steps  # type: ignore[method-assign]
        self.served: Served = serve(llm)

    def texts(self) -> list[str]:
        """What the answers are as texts, as the tokenizer decodes them."""
        return [self.tokenizer.decode(ids, skip_special=True) for ids in self.ids]

    def stream(self, dialect: Dialect, number: int, stop: Sequence[str] = (), **more: Any) -> Heard:
        """The answer as it comes; `more` is asked for beside it."""
        body = {**dialect.body(number + 1, stop), "stream": True, **more}
        with self.served.http.stream("POST", dialect.path, json=body) as response:
            assert response.status_code == 200, response.read()
            lines = [line.removeprefix("data: ") for line in response.iter_lines()]
        return dialect.heard(json.loads(line) for line in lines if line.startswith("{"))

    def whole(self, dialect: Dialect, number: int) -> str:
        """The same answer in one piece."""
        body = {**dialect.body(number + 1, ()), "stream": False}
        return dialect.whole(self.served.post(dialect.path, **body).json())


def _bytes(token: str) -> bytes:
    r"""Of a token as completions write it: `\xed` is a byte."""
    if token.startswith("\\x") and len(token) % 4 == 0:
        return bytes.fromhex(token.replace("\\x", ""))
    return token.encode()
