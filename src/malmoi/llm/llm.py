"""`LLM`: prompts and messages to ids, answers back. Read next: `answer.py`, then `engine/engine.py`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

from malmoi.core.errors import TemplateError
from malmoi.engine import Request, SamplingParams
from malmoi.engine.engine import Engine
from malmoi.llm.answer import Answer, TextStream
from malmoi.llm.completion import Completion
from malmoi.nn.stack import Decoder
from malmoi.text.chat import ChatTemplate, Message
from malmoi.text.tokenizer import Tokenizer

Prompt = str | Sequence[Message]


def named_token(tokenizer: Tokenizer, name: str) -> list[int]:
    """The id of the token that tokenizer_config.json calls `name` ("bos_token", "eos_token"); [] if it has none."""
    token = tokenizer.config.get(name)
    token = token["content"] if isinstance(token, Mapping) else token
    token_id = tokenizer.token_id(token) if token else None
    return [] if token_id is None else [token_id]


class LLM:
    """A model with its tokenizer and chat format. Many requests at once, one thread at a time.

    Args:
        model: any decoder of `models/`.
        tokenizer: the one that it was trained with.
        template: its chat format, or the directory from which the first chat reads it.
        stop_ids: the tokens that end a text, such as <|endoftext|>. A chat's end of turn is found without.
        default_params: how to sample when a call does not say.

    Attributes:
        engine: what runs the requests; may be replaced by one with other limits.

    >>> llm = malmoi.load()                                              # doctest: +SKIP
    >>> llm.generate("한글은", SamplingParams(max_tokens=32)).text          # doctest: +SKIP
    >>> for piece in llm.stream([{"role": "user", "content": "안녕?"}]):   # doctest: +SKIP
    ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | Path | None = None,
        stop_ids: Iterable[int] = (),
        default_params: SamplingParams | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(stop_ids)
        self.default_params = default_params or SamplingParams()
        self.engine = Engine(model)
        self._template = template

    @overload
    def generate(self, prompt: str, params: SamplingParams | None = None) -> Completion: ...
    @overload
    def generate(self, prompt: list[str], params: SamplingParams | None = None) -> list[Completion]: ...
    def generate(
        self, prompt: str | list[str], params: SamplingParams | None = None
    ) -> Completion | list[Completion]:
        """Go on with a text; with several, all at once, in their order.

        Raises RequestError if a prompt has no room in the context.
        """
        if isinstance(prompt, str):
            return self._complete([prompt], params)[0]
        return self._complete(prompt, params)

    def chat(self, messages: Sequence[Message], params: SamplingParams | None = None) -> Completion:
        """Answer a conversation. Raises TemplateError if there is no chat format, or it refuses `messages`."""
        return self._complete([messages], params)[0]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> TextStream:
        """`generate` for a text, `chat` for messages, piece by piece. Raises as they do, and at once."""
        return TextStream(self._answer(prompt, params or self.default_params).pieces())

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids from which the model goes on.

        A text begins as the tokenizer's files say that texts begin, with a BOS token where they add one, as in
        `transformers`; an empty text is the BOS token alone. In a chat the chat format says everything.
        """
        if isinstance(prompt, str):
            return [*self._opening, *self.tokenizer.encode(prompt)] or self._bos
        return self.template.render(prompt, self.tokenizer, add_generation_prompt=True).ids

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat format. Raises TemplateError if there is none."""
        if self._template is None:
            raise TemplateError(
                "this LLM was made without a chat template. Give one: LLM(..., template=...)."
            )
        return ChatTemplate.load(self._template) if isinstance(self._template, Path) else self._template

    def _complete(self, prompts: Sequence[Prompt], params: SamplingParams | None) -> list[Completion]:
        answers = [self._answer(prompt, params or self.default_params) for prompt in prompts]
        try:
            for answer in answers:
                answer.start()
            while unfinished := [answer for answer in answers if not answer.is_finished]:
                self.engine.step()
                for answer in unfinished:
                    answer.advance()
        finally:
            for answer in answers:
                answer.stop()
        return [answer.completion() for answer in answers]

    def _answer(self, prompt: Prompt, params: SamplingParams) -> Answer:
        is_text = isinstance(prompt, str)
        request = Request(
            tokens=self.prompt_ids(prompt),
            params=replace(params, stop=()),
            stop_ids=self.stop_ids if is_text else self.stop_ids | self._end_of_turn,
        )
        goes_on = is_text and prompt != ""
        return Answer(request, self.engine, self.tokenizer, stop_strings=params.stop, at_start=not goes_on)

    @cached_property
    def _opening(self) -> list[int]:
        """What tokenizer.json puts before a text, else the BOS token if tokenizer_config.json says so."""
        encoding = self.tokenizer.backend.encode("a")
        is_added = encoding.special_tokens_mask
        opening = list(encoding.ids[: is_added.index(0)]) if 0 in is_added else []
        return opening or (self._bos if self.tokenizer.config.get("add_bos_token") else [])

    @property
    def _bos(self) -> list[int]:
        return named_token(self.tokenizer, "bos_token")

    @cached_property
    def _end_of_turn(self) -> frozenset[int]:
        """The special token that is the last an assistant would be trained to write, if the format shows it."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            rendered = self.template.render(turns, self.tokenizer)
        except TemplateError:  # a format to talk in, but not to train on: the stop ids have to do
            return frozenset()
        learned = [
            token for token, is_learned in zip(rendered.ids, rendered.loss_mask, strict=True) if is_learned
        ]
        return frozenset(learned[-1:]) & frozenset(self.tokenizer.special_tokens.values())
