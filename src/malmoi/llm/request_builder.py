"""What a caller asks, as the request that an engine is given.

    str | ids | messages, images, sounds, SamplingParams -> REQUEST BUILDER -> TextRequest -> engine

All that is to be done before the first step: chat format, BOS and end of turn, placeholders, forms and locks. It knows
no engine, so `LLM` and `AsyncLLM` ask alike; several threads may. Read next: `answer.py`, the way back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from malmoi.core.errors import ConfigError, RequestError, TemplateError
from malmoi.engine import Attachment, Request, SamplingParams
from malmoi.llm.media import Media, MediaReader
from malmoi.llm.parts import without_media
from malmoi.llm.prompt import Prompt, is_conversation, is_ids
from malmoi.llm.rules import Rules
from malmoi.media import ImageProcessor, SoundProcessor
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.text.chat import ChatTemplate, Message, Rendered
from malmoi.text.tokenizer import Tokenizer


def named_token(tokenizer: Tokenizer, name: str) -> list[int]:
    """The id of the token that tokenizer_config.json calls `name` ("bos_token", "eos_token"); [] if it has none."""
    token = tokenizer.config.get(name)
    token = token["content"] if isinstance(token, Mapping) else token
    token_id = tokenizer.token_id(token) if token else None
    return [] if token_id is None else [token_id]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRequest:
    """A request, and what of it the engine does not know.

    Attributes:
        request: for the engine.
        stop_strings: where the text ends.
        at_start: the answer is a text of its own, not the rest of one.
    """

    request: Request
    stop_strings: Sequence[str]
    at_start: bool


class RequestBuilder:
    """Makes the requests of one model. The arguments are those of `LLM`, and so are the errors."""

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | Path | None,
        stop_ids: Iterable[int],
        answer_opening: Iterable[int],
        image_processor: ImageProcessor | Path | None,
        sound_processor: SoundProcessor | Path | None,
    ) -> None:
        self.answer_opening = tuple(answer_opening)
        if bool(self.answer_opening) != isinstance(model, EncoderDecoder):
            raise ConfigError(
                f"answer_opening={self.answer_opening} with a model of the kind {type(model).__name__}: an "
                "encoder-decoder needs the token that its decoder starts with, another model goes on from its prompt. "
                "Give it to the former alone."
            )
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(stop_ids)
        self._has_source = isinstance(model, EncoderDecoder)
        self._template = template
        self._rules = Rules(tokenizer, vocab_size=model.vocab_size)
        self._media = MediaReader(model, image_processor=image_processor, sound_processor=sound_processor)

    def build(
        self, prompt: Prompt, params: SamplingParams, media: Media = MappingProxyType({})
    ) -> TextRequest:
        """The request for a text, before which the images and sounds of `media` stand, for ids, or for a conversation.

        Raises what `LLM.generate` and `LLM.chat` raise, but for what only an engine knows.
        """
        is_text = not is_conversation(prompt)
        ids, attachments = self._with_media(prompt, media)
        stop_ids = self.stop_ids if is_text else self.stop_ids | self._end_of_turn
        request = Request(
            tokens=self.answer_opening if self._has_source else ids,
            attachments=attachments,
            source=ids if self._has_source else None,
            params=params.without_text(),
            stop_ids=stop_ids,
            rule=self._rules.rule(params, stop_ids=stop_ids),
        )
        goes_on = is_text and prompt != "" and not self._has_source
        return TextRequest(request=request, stop_strings=params.stop, at_start=not goes_on)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids from which the model goes on, or which its encoder reads: see `LLM.prompt_ids`."""
        if isinstance(prompt, str):
            opening, closing = self._frame
            closing = closing if self._has_source else []
            return [*opening, *self._guarded.encode(prompt), *closing] or self._bos
        if is_ids(prompt):
            return list(prompt)
        assert is_conversation(prompt), "there is no fourth kind"
        return self.render(prompt, add_generation_prompt=True).ids

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> Rendered:
        """A conversation in the model's chat format: `ChatTemplate.render`, whose errors it raises."""
        return self.template.render(
            messages,
            self._guarded,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat format. Raises TemplateError if there is none."""
        if self._template is None:
            raise TemplateError(
                "this LLM was made without a chat template. Give one: LLM(..., template=...)."
            )
        return ChatTemplate.load(self._template) if isinstance(self._template, Path) else self._template

    def _with_media(self, prompt: Prompt, media: Media) -> tuple[list[int], list[Attachment]]:
        """`prompt_ids` with room for each image and sound, and what stands there."""
        self._media.check(media)
        if is_ids(prompt):
            if any(media.values()):
                raise RequestError("images and audio do not go before ids. Give the prompt as text.")
            return self.prompt_ids(prompt), []
        if is_conversation(prompt):
            if any(media.values()):
                raise RequestError(
                    "in a conversation images and audio are parts of messages. Put them there."
                )
            messages, media = without_media(prompt)
            self._media.check(media)
            return self._media.place(self.prompt_ids(messages), media)
        assert isinstance(prompt, str), "there is no fourth kind"
        ids = self.prompt_ids(prompt)
        places = [self._media.placeholders[medium] for medium, sources in media.items() for _ in sources]
        start = len(ids) - len(self._guarded.encode(prompt)) if places else 0
        return self._media.place([*ids[:start], *places, *ids[start:]], media)

    @cached_property
    def _guarded(self) -> Tokenizer:
        """The tokenizer, to which the model's placeholders are control tokens also where its file does not say so."""
        return self.tokenizer.with_special(self._media.placeholders.values())

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What tokenizer.json puts before and behind a text, else the tokens that tokenizer_config.json says to add."""
        encoding = self.tokenizer.backend.encode("a")
        is_added, opening, closing = encoding.special_tokens_mask, [], []
        if 0 in is_added:
            opening = list(encoding.ids[: is_added.index(0)])
            closing = list(encoding.ids[len(is_added) - is_added[::-1].index(0) :])
        config = self.tokenizer.config
        eos = named_token(self.tokenizer, "eos_token") if config.get("add_eos_token") else []
        return opening or (self._bos if config.get("add_bos_token") else []), closing or eos

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


def check_messages(messages: object) -> None:
    """Raise RequestError for what is no conversation."""
    if not isinstance(messages, list | tuple):
        raise RequestError(
            f"chat takes a list of messages, not {type(messages).__name__}. A text goes to generate."
        )


def check_single(params: SamplingParams) -> None:
    """Raise RequestError for several answers, of which a stream has none to show first."""
    if params.n > 1:
        raise RequestError(
            f"n={params.n}, and a stream gives one answer. Leave n at 1, or use generate or chat."
        )
