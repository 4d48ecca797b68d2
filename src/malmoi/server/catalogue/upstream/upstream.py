"""A model of another machine, behind an OpenAI-compatible URL, that answers like any of ours: `Upstream`.

    Prompt, SamplingParams -> asked.py -> client.py -> events.py -> told.py -> Deltas, Completion

Text comes on as it comes in; who goes away ends the request there, too. Place in the flow: an `Entry` of the catalogue,
and its own `Writer`. Read next: `asked.py`.
"""

import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NoReturn
from urllib.parse import quote

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion
from malmoi.llm.answer import Delta
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt, is_conversation
from malmoi.server.bodies import Texts
from malmoi.server.catalogue.entry import Entry, as_told
from malmoi.server.catalogue.measured import Measures, counted
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.upstream.asked import UNSAID, asked
from malmoi.server.catalogue.upstream.breaker import Breaker
from malmoi.server.catalogue.upstream.client import FIRST_PAUSE, Client, read_rest
from malmoi.server.catalogue.upstream.events import events
from malmoi.server.catalogue.upstream.settings import ANYTHING, UpstreamSettings
from malmoi.server.catalogue.upstream.told import DONE, Told
from malmoi.server.catalogue.writer import Steps, Writer
from malmoi.server.errors import ServerError

_log = logging.getLogger("malmoi.server")


class Upstream(Entry, Writer):
    """A model of another machine.

    Args:
        name: what it is called here.
        settings: where it is.
        price: what its tokens cost.
        breaker: says when it is not asked for a while.
        first_pause: seconds before a request is sent again for the first time.

    >>> settings = UpstreamSettings(url="http://localhost:8001/v1", model="default")
    >>> Upstream("far", settings).described()["kind"]
    'upstream'
    """

    kind = "upstream"

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        *,
        price: Price | None = None,
        breaker: Breaker | None = None,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.name, self.settings, self.price = name, settings, price
        self.breaker = breaker or Breaker()
        self.measures = self._measures = Measures()
        self._client = Client(name, settings, breaker=self.breaker, first_pause=first_pause)
        self._is_malmoi: bool | None = None

    @property
    def is_ready(self) -> bool:
        return True

    @property
    def default_params(self) -> SamplingParams:
        return UNSAID

    @property
    def local(self) -> LLM:
        self._refuse_insides()

    @property
    def num_retries(self) -> int:
        """How often a request was sent again."""
        return self._client.num_retries

    async def serving(self) -> "Upstream":
        return self

    def answer(self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, salt: str = "") -> Steps:
        for name, value in (("priority", priority), ("cache_salt", salt)):
            if value:
                raise ServerError(
                    f"{name} is about the requests of this machine, and {self.name!r} runs on another. Leave it out.",
                    param=name,
                )
        return counted(self._steps(prompt, params), self._measures)

    async def num_tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has, if a Malmoi is asked. Raises ServerError (400) for another server."""
        if not await self._asks_malmoi():
            raise ServerError(
                f"the model {self.name!r} runs on another machine, which counts no tokens. The answer has their number."
            )
        root, model = self.settings.url.removesuffix("/").removesuffix("/v1"), self.settings.model
        if isinstance(prompt, ChatPrompt) or is_conversation(prompt):
            said = asked(prompt, UNSAID).body
            contents = [message.get("content") for message in said["messages"]]
            if any(isinstance(content, list) and not all(map(_is_text, content)) for content in contents):
                raise ServerError("images and sounds cannot be counted on another machine. Leave them out.")
            if "tools" in said:
                said = {name: value for name, value in said.items() if name in ("messages", "tools")}
            rendered = await self._client.json("POST", f"{root}/v1/chat/render", {"model": model, **said})
            return self._count(rendered)
        if isinstance(prompt, str):
            found = await self._client.json("POST", f"{root}/tokenize", {"model": model, "text": prompt})
            return self._count(found)
        if isinstance(prompt, Infill):
            raise ServerError("a text with a gap cannot be counted on another machine.")
        return len(prompt)

    async def vectors(self, texts: Texts, *, dimensions: int | None) -> tuple[list[list[float]], int]:
        """A vector of each text, in their order, and how many tokens were read there. Raises ServerError."""
        asked_for = {} if dimensions is None else {"dimensions": dimensions}
        body = {"model": self.settings.model, "input": texts, "encoding_format": "float", **asked_for}
        found = await self._client.json("POST", "/embeddings", body)
        try:
            rows = sorted(found["data"], key=lambda row: row["index"])
            vectors = [[float(number) for number in row["embedding"]] for row in rows]
            num_tokens = int(found["usage"]["prompt_tokens"])
        except (KeyError, OverflowError, TypeError, ValueError):
            raise self._sent_nonsense("are no vectors") from None
        is_one = isinstance(texts, str) or any(isinstance(one, int) for one in texts)
        if [row["index"] for row in rows] != list(range(1 if is_one else len(texts))):
            raise self._sent_nonsense("are not as many vectors as texts")
        if not all(math.isfinite(number) for vector in vectors for number in vector):
            raise self._sent_nonsense("are no finite vectors")
        return vectors, num_tokens

    def described(self) -> dict[str, Any]:
        about = {
            "context_length": self.settings.context_length,
            "abilities": as_told(self.abilities),
            "state": self.breaker.state,
        }
        return {**super().described(), **about}

    async def close(self) -> None:
        await self._client.close()

    async def _steps(
        self, prompt: Prompt, params: SamplingParams
    ) -> AsyncGenerator[list[Delta] | Completion, None]:
        begin = time.perf_counter()
        request = asked(prompt, params)
        for name in request.extras:
            if not {name, ANYTHING} & {*self.settings.accepts} and not await self._asks_malmoi():
                raise ServerError(
                    f"{name} is no parameter of OpenAI's, and the model {self.name!r} runs on another machine. Leave "
                    f'it out; or, if it is known there, start the server with accepts = ["{name}"] in its file.',
                    param=name,
                )
        body = {
            "model": self.settings.model,
            **request.body,
            **request.extras,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        told = Told(params.n, has_logprobs=params.logprobs is not False)
        async with self._client.request("POST", request.path, body) as response:
            yield [Delta("")] * params.n
            async with aclosing(events(response.aiter_raw())) as datas:
                async for data in datas:
                    if data == DONE:
                        await read_rest(datas)
                        break
                    if deltas := told.read(data, seconds=time.perf_counter() - begin):
                        yield deltas
            completion = told.completion(seconds=time.perf_counter() - begin)
        if not told.has_usage:
            _log.warning("the upstream of %r says nothing of tokens: this answer counts none", self.name)
        yield completion

    async def _asks_malmoi(self) -> bool:
        """Whether that machine is a Malmoi, which understands all that is understood here.

        Who does not answer that question is none. What may be otherwise next time is not remembered.
        """
        if self._is_malmoi is not None:
            return self._is_malmoi
        status, found = await self._client.glance(f"/models/{quote(self.settings.model)}")
        has_owner = status == 200 and isinstance(found, dict) and "owned_by" in found
        is_malmoi = bool(has_owner and found["owned_by"] == "malmoi")
        if has_owner or status in (404, 405):
            self._is_malmoi = is_malmoi
        return is_malmoi

    def _count(self, found: dict[str, Any]) -> int:
        """The number of tokens in an answer. Raises ServerError (502) if there is none."""
        if type(count := found.get("count")) is not int or count < 0:
            raise self._sent_nonsense("is no number of tokens")
        return count

    def _sent_nonsense(self, problem: str) -> ServerError:
        return ServerError(
            f"the model {self.name!r} runs on another machine, and what that sent {problem}.",
            status=502,
            code="upstream_error",
        )

    def _refuse_insides(self) -> NoReturn:
        raise ServerError(
            f"the model {self.name!r} runs on another machine, and this needs its insides. Name a model of this one.",
            param="model",
        )


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"
