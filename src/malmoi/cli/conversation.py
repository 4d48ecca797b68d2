"""A conversation as `malmoi chat` keeps it: the system message, the turns, the parameters.

No terminal here. Read next: `slash.py`, what the user can do to it; `chat.py`, which shows it.
"""

from collections.abc import Generator
from contextlib import closing

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, ChatPrompt, Completion, Delta


class Conversation:
    """Turns that grow by a question and an answer at a time, and what the next answer depends on besides.

    `last` is the completion of the last answer, None before it and where it was cut short. `thinks` and
    `thought_budget` are those of `ChatPrompt`.
    """

    def __init__(
        self,
        llm: LLM,
        params: SamplingParams,
        *,
        system: str = "",
        thinks: bool | None = None,
        thought_budget: int | None = None,
    ) -> None:
        self.llm = llm
        self.params = params
        self.system = system
        self.thinks, self.thought_budget = thinks, thought_budget
        self.turns: list[dict[str, str]] = []
        self.last: Completion | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """All messages in the OpenAI shape, the system message first if there is one."""
        return [{"role": "system", "content": self.system}, *self.turns] if self.system else self.turns[:]

    def ask(self, question: str) -> Generator[Delta]:
        """Yield the answer as it comes. Mutates `turns`: question and answer are added; and `last`.

        An answer cut short by closing the iterator stays as far as it got, and `last` is None. A question that
        got no answer at all, because of an error for one, is taken back. What was thought is kept beside the answer:
        the chat format says whether the model is shown it again.
        """
        self.turns.append({"role": "user", "content": question})
        self.last = None
        answer = thought = ""
        prompt = ChatPrompt(messages=self.messages, thinks=self.thinks, thought_budget=self.thought_budget)
        try:
            with closing(self.llm.deltas(prompt, self.params)) as stream:
                for delta in stream:
                    answer += delta.text
                    thought += delta.thought
                    yield delta
                self.last = stream.completion
        finally:
            if answer:
                thoughts = {"reasoning_content": thought} if thought else {}
                self.turns.append({"role": "assistant", "content": answer} | thoughts)
            else:
                self.turns.pop()

    def undo(self) -> str | None:
        """Drop the last question and its answer from `turns`; return the question, None if there is none."""
        if not self.turns:
            return None
        *self.turns, question, _answer = self.turns
        return question["content"]
