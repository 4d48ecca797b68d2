"""How a model talks: its template, its marks for thoughts, the way in which it writes calls, and what opens an answer.

    ChatPrompt -> CHAT FORMAT: checked against what the model can do, rendered -> Opening: ids, where the answer begins

Place in the flow: `request_builder.py` asks it for each conversation. It is found in the checkpoint's files and knows
no engine. Read next: `reasoning.py`, `tools/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from malmoi.core.errors import RequestError, TemplateError
from malmoi.llm import past_calls, reasoning, tools
from malmoi.llm.parts import in_one_text
from malmoi.llm.prompt import ChatPrompt
from malmoi.llm.reasoning import Place, ThoughtFormat
from malmoi.llm.tools import CallFormat, Tool
from malmoi.text.chat import ChatTemplate, Message, Rendered
from malmoi.text.tokenizer import Tokenizer

_UNMISTAKABLE = "한 조각 7f3a"
"""What no template says by itself."""


@dataclass(frozen=True)
class Opening:
    """What an answer goes on from, but for its `beginning`: `ids`, and the `place` in the assistant's message there.

    `shown` are the tools that the model was shown.
    """

    ids: list[int]
    place: Place
    shown: list[Tool]


class ChatFormat:
    """A model's chat format.

    Args:
        template: the template, or the directory from which the first chat reads it; None: the model has none.
        tokenizer: to which each placeholder of an image or a sound is a control token.
    """

    def __init__(self, template: ChatTemplate | Path | None, tokenizer: Tokenizer) -> None:
        self._source, self._tokenizer = template, tokenizer

    @cached_property
    def template(self) -> ChatTemplate:
        """Raises TemplateError if there is none."""
        if self._source is None:
            raise TemplateError(
                "this LLM was made without a chat template. Give one: LLM(..., template=...)."
            )
        return ChatTemplate.load(self._source) if isinstance(self._source, Path) else self._source

    @cached_property
    def thoughts(self) -> ThoughtFormat | None:
        """How it thinks; None: it does not. Raises TemplateError if there is no template."""
        added = self._tokenizer.backend.get_added_tokens_decoder().values()
        return reasoning.find(self.template, [token.content for token in added])

    @cached_property
    def calls(self) -> CallFormat | None:
        """How it calls tools; None: it does not. Raises TemplateError if there is no template."""
        return tools.find(self.template)

    def marks(self, *, calling: bool) -> frozenset[int]:
        """The special tokens that an answer is read by: around a thought, and, if it may call something, calls."""
        thoughts = () if self.thoughts is None else self.thoughts.marks
        calls = self.calls.written if calling and self.calls is not None else ()
        ids = (self._tokenizer.encode_special(text) for text in (*thoughts, *calls))
        return frozenset(self._tokenizer.special_tokens.values()) & frozenset(chain.from_iterable(ids))

    @cached_property
    def end_of_turn(self) -> frozenset[int]:
        """The special token that is the last an assistant would be trained to write, if the format shows it."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            rendered = self.template.render(turns, self._tokenizer)
        except TemplateError:  # a format to talk in, but not to train on: the stop ids have to do
            return frozenset()
        learned = [
            token for token, is_learned in zip(rendered.ids, rendered.loss_mask, strict=True) if is_learned
        ]
        return frozenset(learned[-1:]) & frozenset(self._tokenizer.special_tokens.values())

    def open(self, prompt: ChatPrompt) -> Opening:
        """The prompt in this format. Raises TemplateError as rendering does, RequestError for what it cannot do."""
        if prompt.is_continued and (not prompt.messages or prompt.messages[-1].get("role") != "assistant"):
            raise RequestError(
                "is_continued=True goes on with the assistant's message, and the last one is not the assistant's. Add "
                "one, or leave it out."
            )
        switches = self._switches(prompt)
        shown = self.shown(prompt)
        rendered = self.render(
            prompt.messages,
            add_generation_prompt=not prompt.is_continued,
            continue_final_message=prompt.is_continued,
            tools=[tool.described for tool in shown] or None,
            **switches,
        )
        return Opening(rendered.ids, self._place(rendered.text, prompt), shown)

    def shown(self, prompt: ChatPrompt) -> list[Tool]:
        """The tools that the model is shown. Raises RequestError if it takes none, or for one that is no tool."""
        offered = tools.offered(prompt)
        if offered and self.calls is None:
            raise RequestError(
                "this model's chat format shows no tools. Ask without, or load a model that was trained to call them."
            )
        return offered

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **switches: Any,
    ) -> Rendered:
        """A conversation: `ChatTemplate.render`, whose errors it raises.

        The arguments of a call may be the text of a JSON object, as in OpenAI's messages: a template that wants an
        object is given one. Where ids have to be short, the last characters of longer ones stand for them. Texts in
        parts are one text to a template that passes over parts.
        """
        if not self._takes_parts:
            messages = list(map(in_one_text, messages))
        if self._takes_objects:
            messages = list(map(past_calls.with_objects, messages))
        if self.calls is not None and self.calls.id_length:
            messages = [past_calls.with_short_ids(message, self.calls.id_length) for message in messages]
        return self.template.render(
            messages,
            self._tokenizer,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            **switches,
        )

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template shows what is said in parts. Qwen3's, for one, passes over it without a word."""
        said = [{"role": "user", "content": [{"type": "text", "text": _UNMISTAKABLE}]}]
        try:
            text = self.template.render(said, self._tokenizer, add_generation_prompt=True).text
        except TemplateError:
            return False
        # A template that knows no parts writes them as Python would, or as JSON.
        is_raw = any(f"{quote}type{quote}" in text for quote in "'\"")
        return _UNMISTAKABLE in text and not is_raw

    @cached_property
    def _takes_objects(self) -> bool:
        """Whether the template writes a call's arguments, given as an object, as JSON."""
        try:
            text = self.template.render(past_calls.PROBE, self._tokenizer, add_generation_prompt=True).text
        except TemplateError:
            return False
        return past_calls.object_is_shown(text)

    def _switches(self, prompt: ChatPrompt) -> dict[str, bool]:
        """What the template is told about thinking."""
        thoughts, thinks = self.thoughts, prompt.thinks
        switch = thoughts.switch if thoughts else None
        if prompt.thought_budget is not None and prompt.thought_budget < 0:
            raise RequestError(
                f"thought_budget={prompt.thought_budget} is out of range. Give a number of tokens from 0 on, or None."
            )
        if thinks and (thoughts is None or not thoughts.is_taught):
            raise RequestError("thinks=True, and this model never thinks before it answers. Leave it out.")
        if thinks is False and thoughts is not None and thoughts.is_taught and switch is None:
            raise RequestError(
                "thinks=False, and this model always thinks: its chat format has no switch. Leave it out, or give "
                "thought_budget=0, which closes a thought at once."
            )
        if thinks is None and prompt.thought_budget == 0:
            thinks = False  # as the model has learned it
        return {} if thinks is None or switch is None else {switch: thinks}

    def _place(self, text: str, prompt: ChatPrompt) -> Place:
        """Where in the assistant's message the prompt ends."""
        thoughts = self.thoughts
        if thoughts is None:
            return "answer"
        if prompt.is_continued:
            said = _said(prompt.messages[-1])
            if said.lstrip().startswith(thoughts.opening) and thoughts.closing not in said:
                return "thought"
            return "answer" if said.strip() else self._at_end(text, thoughts)
        return self._at_end(text, thoughts)

    def _at_end(self, text: str, thoughts: ThoughtFormat) -> Place:
        text = text.rstrip()
        if text.endswith(thoughts.opening):
            return "thought"
        return "answer" if text.endswith(thoughts.closing) else "before"


def _said(message: Message) -> str:
    """The text of a message."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
