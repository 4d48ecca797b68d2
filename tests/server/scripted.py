"""A model for tests of the dialects: it says exact deltas, whatever it is asked, and remembers what that was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion
from malmoi.llm.abilities import Abilities
from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta, FinishedBy, Timings, ToolCall, Usage
from malmoi.llm.prompt import ChatPrompt, Prompt
from malmoi.server.catalogue.entry import Chooser, Entry, Pick
from malmoi.server.catalogue.writer import Steps, Writer
from malmoi.testing.models import tiny_llm

THINKS = Abilities(thinking="switchable", tools=True, fills_gaps=True)
F: dict[str, Any] = {"type": "object", "properties": {"도시": {"type": "string"}}, "required": ["도시"]}
"""What the function of these tests takes."""


class Scripted(Writer, Entry):
    """An entry of a catalogue that answers with `deltas`; `prompts` and `params` are what it was asked."""

    kind = "writes"

    def __init__(
        self,
        *deltas: Delta,
        reason: FinishedBy = "stop",
        stop: str | None = None,
        abilities: Abilities = THINKS,
    ) -> None:
        self.deltas, self._reason, self._stop, self._abilities = deltas, reason, stop, abilities
        self.prompts: list[Prompt] = []
        self.params: list[SamplingParams] = []

    @property
    def is_ready(self) -> bool:
        return True

    async def serving(self) -> Writer:
        return self

    @property
    def default_params(self) -> SamplingParams:
        return SamplingParams(temperature=0.5)

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    @property
    def local(self) -> LLM:
        return tiny_llm()

    async def close(self) -> None:
        """Nothing goes on."""

    async def num_tokens(self, prompt: Prompt) -> int:
        self.prompts.append(prompt)
        return 7

    async def answer(
        self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, salt: str = ""
    ) -> Steps:
        self.prompts.append(prompt)
        self.params.append(params)
        nothing = [Delta("")] * params.n
        yield nothing
        for delta in self.deltas:
            yield [delta] * params.n
        yield [Delta("", finish_reason=self._reason)] * params.n
        completion = self.completion()
        yield replace(completion, siblings=[completion] * (params.n - 1))

    def completion(self) -> Completion:
        """What the deltas make."""
        thoughts = [delta.thought for delta in self.deltas]
        return Completion(
            text="".join(delta.text for delta in self.deltas),
            tokens=[5] * len(self.deltas),
            finish_reason=self._reason,
            logprobs=None,
            thought="".join(thoughts),
            tool_calls=calls_of([one for delta in self.deltas for one in delta.calls]),
            stop=self._stop,
            usage=Usage(
                prompt_tokens=7,
                completion_tokens=len(self.deltas),
                thought_tokens=sum(map(bool, thoughts)),
            ),
            timings=Timings(token_times=(0.1, 0.2)),
        )

    @property
    def asked(self) -> ChatPrompt:
        """The conversation that it was asked about last."""
        prompt = self.prompts[-1]
        assert isinstance(prompt, ChatPrompt)
        return prompt


def calls_of(deltas: Sequence[CallDelta]) -> list[ToolCall]:
    """The calls that deltas make."""
    calls: dict[int, ToolCall] = {}
    for one in deltas:
        so_far = calls.get(one.place, ToolCall("", "", ""))
        calls[one.place] = ToolCall(
            so_far.id + one.id, so_far.name + one.name, so_far.arguments + one.arguments
        )
    return [calls[place] for place in sorted(calls)]


class Picks(Chooser):
    """A virtual model that always picks `name`."""

    def __init__(self, name: str, why: str) -> None:
        self._pick = Pick(name, why)

    def choose(self, prompt: Prompt, headers: Mapping[str, str]) -> Pick:
        assert "user-agent" in headers
        return self._pick


def thinks_and_calls() -> Scripted:
    """A thought, a word, and two calls whose arguments come in pieces."""
    return Scripted(
        Delta("", thought="서울 날씨를 "),
        Delta("", thought="알아보자."),
        Delta("잠깐"),
        Delta("만요."),
        Delta("", calls=[CallDelta(0, "call_1", "날씨", "")]),
        Delta("", calls=[CallDelta(0, arguments='{"도시": ')]),
        Delta("", calls=[CallDelta(0, arguments='"서울"}'), CallDelta(1, "call_2", "시각")]),
        Delta("", calls=[CallDelta(1, arguments="{}")]),
        reason="tool_calls",
    )


THOUGHT, TEXT = "서울 날씨를 알아보자.", "잠깐만요."
CALLS = [ToolCall("call_1", "날씨", '{"도시": "서울"}'), ToolCall("call_2", "시각", "{}")]
