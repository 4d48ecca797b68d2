"""`LLM`: prompts and messages to ids, answers back. Read next: `answer.py`, then `engine/engine.py`."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

from malmoi.core.errors import ConfigError, RequestError, TemplateError
from malmoi.engine import Attachment, Request, SamplingParams
from malmoi.engine.engine import Engine
from malmoi.llm.answer import Answer, TextStream
from malmoi.llm.completion import Completion
from malmoi.llm.media import Media, MediaReader
from malmoi.llm.parts import without_media
from malmoi.llm.rules import Rules
from malmoi.media import ImageProcessor, SoundProcessor
from malmoi.media.sources import MediaSource
from malmoi.nn.stack import Decoder, EncoderDecoder
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

    A decoder goes on from a prompt; an encoder-decoder reads it and writes an answer.

    Args:
        model: any decoder or encoder-decoder of `models/` that reads text.
        tokenizer: the one that it was trained with.
        template: its chat format, or the directory from which the first chat reads it.
        stop_ids: the tokens that end a text, such as <|endoftext|>. A chat's end of turn is found without.
        default_params: how to sample when a call does not say.
        answer_opening: the tokens that every answer of an encoder-decoder begins with; none for a decoder.
        image_processor: for a model that sees, its processor, or the directory from which the first image reads it.
        sound_processor: the same for a model that hears.
        engine_options: what `Engine` is made with, by the names of its arguments: `{"cache_dtype": "int8"}`.

    Attributes:
        engine: what runs the requests; may be replaced by another of the same model.

    Raises ConfigError if `answer_opening` does not fit the kind of the model, or for options that no engine has.

    >>> llm = malmoi.load()                                              # doctest: +SKIP
    >>> llm.generate("한글은", SamplingParams(max_tokens=32)).text          # doctest: +SKIP
    >>> for piece in llm.stream([{"role": "user", "content": "안녕?"}]):   # doctest: +SKIP
    ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | Path | None = None,
        stop_ids: Iterable[int] = (),
        default_params: SamplingParams | None = None,
        answer_opening: Iterable[int] = (),
        image_processor: ImageProcessor | Path | None = None,
        sound_processor: SoundProcessor | Path | None = None,
        engine_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.answer_opening = tuple(answer_opening)
        if bool(self.answer_opening) != isinstance(model, EncoderDecoder):
            raise ConfigError(
                f"answer_opening={self.answer_opening} with a model of the kind {type(model).__name__}: an "
                "encoder-decoder needs the token that its decoder starts with, another model goes on from its prompt. "
                "Give it to the former alone."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(stop_ids)
        self.default_params = default_params or SamplingParams()
        self.engine = Engine(model, **_checked(engine_options))
        self._template = template
        self._rules = Rules(tokenizer, vocab_size=model.vocab_size)
        self._media = MediaReader(model, image_processor=image_processor, sound_processor=sound_processor)

    @overload
    def generate(
        self,
        prompt: str,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> Completion: ...
    @overload
    def generate(self, prompt: list[str], params: SamplingParams | None = None) -> list[Completion]: ...
    def generate(
        self,
        prompt: str | list[str],
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> Completion | list[Completion]:
        """Go on with a text, or answer it (encoder-decoders); with several, all at once, in their order.

        `images`, and behind them `audio` (a path, bytes or a `data:` URL each), stand before the one text, for a model
        that sees or hears. A string among them is opened as a path: hand on no stranger's.
        Raises RequestError if a prompt has no room in the context, the model does not take the medium, or there are
        more than 64 files, MediaError for a file that cannot be read.
        """
        media = {"images": images, "audio": audio}
        if isinstance(prompt, str):
            return self._complete([prompt], params, media)[0]
        if not isinstance(prompt, list | tuple) or not all(isinstance(one, str) for one in prompt):
            raise RequestError("generate takes a text, or a list of texts. Messages go to chat.")
        if any(media.values()):
            raise RequestError(
                "images and audio stand before one text, and there are several. Ask one by one."
            )
        return self._complete(prompt, params)

    def chat(self, messages: Sequence[Message], params: SamplingParams | None = None) -> Completion:
        """Answer a conversation.

        A message shows an image as a part of its content, `{"type": "image", "image": ...}`, and a sound as
        `{"type": "audio", "audio": ...}`, where the model takes them; OpenAI's `image_url` and `input_audio` are read,
        too. Anybody may have written the strings of a message: none becomes a control token, and for an image or a
        sound none but a `data:` URL is read. A `pathlib.Path` is trusted, and opened wherever it points; so put one
        there only where you know who chose it.

        Raises:
            TemplateError: there is no chat format, it refuses `messages`, or a part of one is not known.
            RequestError: the conversation has no room in the context, the model does not take a medium, or there are
                more than 64 images and sounds.
            MediaError: a string that is no `data:` URL, or an image or a sound that cannot be read.
        """
        if not isinstance(messages, list | tuple):
            raise RequestError(
                f"chat takes a list of messages, not {type(messages).__name__}. A text goes to generate."
            )
        return self._complete([messages], params)[0]

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> TextStream:
        """`generate` for a text, `chat` for messages, piece by piece.

        Raises as they do, and at once; and RequestError for several answers (`SamplingParams.n`).
        """
        params = params or self.default_params
        if params.n > 1:
            raise RequestError(
                f"n={params.n}, and a stream gives one answer. Leave n at 1, or use LLM.generate or LLM.chat."
            )
        return TextStream(self._answer(prompt, params, {"images": images, "audio": audio}).pieces())

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids from which the model goes on, or which its encoder reads.

        A text begins, and for an encoder also ends, as the tokenizer's files say, with a BOS token where they add
        one, as in `transformers`; an empty text is the BOS token alone. In a chat the chat format says everything.
        """
        if isinstance(prompt, str):
            opening, closing = self._frame
            closing = closing if isinstance(self.model, EncoderDecoder) else []
            return [*opening, *self._guarded.encode(prompt), *closing] or self._bos
        return self.template.render(prompt, self._guarded, add_generation_prompt=True).ids

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat format. Raises TemplateError if there is none."""
        if self._template is None:
            raise TemplateError(
                "this LLM was made without a chat template. Give one: LLM(..., template=...)."
            )
        return ChatTemplate.load(self._template) if isinstance(self._template, Path) else self._template

    def _complete(
        self, prompts: Sequence[Prompt], params: SamplingParams | None, media: Media | None = None
    ) -> list[Completion]:
        answers = [self._answer(prompt, params or self.default_params, media or {}) for prompt in prompts]
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

    def _answer(self, prompt: Prompt, params: SamplingParams, media: Media) -> Answer:
        is_text = isinstance(prompt, str)
        ids, attachments = self._with_media(prompt, media)
        has_source = isinstance(self.model, EncoderDecoder)
        stop_ids = self.stop_ids if is_text else self.stop_ids | self._end_of_turn
        request = Request(
            tokens=self.answer_opening if has_source else ids,
            attachments=attachments,
            source=ids if has_source else None,
            params=params.without_text(),
            stop_ids=stop_ids,
            rule=self._rules.rule(params, stop_ids=stop_ids),
        )
        goes_on = is_text and prompt != "" and not has_source
        return Answer(request, self.engine, self.tokenizer, stop_strings=params.stop, at_start=not goes_on)

    def _with_media(self, prompt: Prompt, media: Media) -> tuple[list[int], list[Attachment]]:
        """`prompt_ids` with room for each image and sound, and what stands there."""
        self._media.check(media)
        if not isinstance(prompt, str):
            if any(media.values()):
                raise RequestError(
                    "in a conversation images and audio are parts of messages. Put them there."
                )
            messages, media = without_media(prompt)
            self._media.check(media)
            return self._media.place(self.prompt_ids(messages), media)
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


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, if an engine has each of them."""
    known = [name for name in signature(Engine).parameters if name != "model"]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"engine_options has {name!r}, and an engine has no such option.{hint} It has: {', '.join(known)}."
            )
    return options
