"""Images and sounds in a prompt: files -> features, and as many placeholders among the ids as there are features.

    messages -> `without_media` -> messages for the chat format, which writes a placeholder for each | the files
    files    -> `malmoi.media` -> the model's encoder -> features
    ids      -> each placeholder repeated, once for each feature of its file -> ids, Attachments -> engine

Place in the flow: `llm.py` calls it before a request is made. Read next: `malmoi/media`, `nn/multimodal.py`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from malmoi.core.errors import RequestError, TemplateError
from malmoi.engine import Attachment
from malmoi.media import (
    ImageProcessor,
    SoundProcessor,
    load_image,
    load_image_processor,
    load_sound,
    load_sound_processor,
)
from malmoi.media.sources import MediaSource
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Model
from malmoi.text.chat import Message

Media = Mapping[str, Sequence[MediaSource]]
"""The files of each medium, by the name that the model has for it: "images", "audio"."""

_PARTS = {"image": "images", "audio": "audio"}
"""Types of parts of a message, and the medium of each."""


class MediaReader:
    """Sees and hears for a model; the processors make of a file what its towers were trained on.

    A processor may be given as the directory that it is read from when the first file comes.
    """

    def __init__(
        self,
        model: Model,
        *,
        image_processor: ImageProcessor | Path | None = None,
        sound_processor: SoundProcessor | Path | None = None,
    ) -> None:
        self._model = model
        self._image_source, self._sound_source = image_processor, sound_processor

    def placeholder(self, medium: str) -> int:
        """The id of a medium's placeholder. Raises RequestError if the model does not take it."""
        return self._model_of(medium).placeholders[medium]

    def place(self, ids: Sequence[int], media: Media) -> tuple[list[int], list[Attachment]]:
        """The ids with as many placeholders as a file has features where they have one, and the features there.

        Raises RequestError if there are not as many files of a medium as placeholders or the model does not take it,
        MediaError if a file cannot be read, CheckpointError if the model's processor is missing.
        """
        given = {medium: sources for medium, sources in media.items() if sources}
        for medium, sources in given.items():
            placeholder = self.placeholder(medium)
            if (found := list(ids).count(placeholder)) != len(sources):
                raise RequestError(
                    f"the prompt has {found} places for {medium} (id {placeholder}), and {len(sources)} were given. "
                    "Check that the chat format is the model's own, and shows them."
                )
        waiting = {
            self.placeholder(medium): iter(self.features(medium, sources))
            for medium, sources in given.items()
        }
        widened: list[int] = []
        attachments = []
        for token in ids:
            if token not in waiting:
                widened.append(token)
                continue
            features = next(waiting[token])
            attachments.append(Attachment(start=len(widened), features=features))
            widened += [token] * len(features)
        return widened, attachments

    @torch.inference_mode()
    def features(self, medium: str, sources: Sequence[MediaSource]) -> list[Tensor]:
        """What the model's encoder makes of each file. Raises as `place` does."""
        model = self._model_of(medium)
        if medium == "images":
            pixels = np.stack([self._image_processor(load_image(source)) for source in sources])
            made = model.encode(images=torch.from_numpy(pixels).to(model.device))[medium]
            return list(made.chunk(len(sources)))
        features = []
        for source in sources:
            processor = self._sound_processor
            sound = processor(load_sound(source, sample_rate=processor.sample_rate))
            audio, mask = (torch.from_numpy(x).to(model.device) for x in (sound.mel, sound.mask))
            features.append(model.encode(audio=audio, audio_mask=mask)[medium])
        return features

    def _model_of(self, medium: str) -> Multimodal:
        model = self._model
        if not isinstance(model, Multimodal) or medium not in model.placeholders:
            takes = ", ".join(model.placeholders) if isinstance(model, Multimodal) else "text alone"
            raise RequestError(
                f"this model takes no {medium}, but {takes}. Leave them out, or load one that does."
            )
        return model

    @cached_property
    def _image_processor(self) -> ImageProcessor:
        source = self._image_source
        if source is None:
            raise RequestError("this LLM has no image processor. Give one: LLM(..., image_processor=...).")
        return load_image_processor(source) if isinstance(source, Path) else source

    @cached_property
    def _sound_processor(self) -> SoundProcessor:
        source = self._sound_source
        if source is None:
            raise RequestError("this LLM has no sound processor. Give one: LLM(..., sound_processor=...).")
        return load_sound_processor(source) if isinstance(source, Path) else source


def without_media(messages: Sequence[Message]) -> tuple[list[Message], dict[str, list[MediaSource]]]:
    """The messages with nothing in their images and sounds, which chat formats do not read; and these, in order.

    >>> content = [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "?"}]
    >>> messages, media = without_media([{"role": "user", "content": content}])
    >>> messages[0]["content"]
    [{'type': 'image', 'image': ''}, {'type': 'text', 'text': '?'}]
    >>> media
    {'images': ['cat.png'], 'audio': []}

    Raises TemplateError for a part that says it is an image or a sound, and has none.
    """
    media: dict[str, list[MediaSource]] = {medium: [] for medium in _PARTS.values()}

    def emptied(part: Any) -> Any:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in _PARTS:
            return part
        source = part.get(kind)
        if not isinstance(source, MediaSource):
            raise TemplateError(
                f"a part of a message says that it is of the type {kind}, and is {part!r:.80}. "
                f'Write it like {{"type": "{kind}", "{kind}": ...}} with a path, bytes or a data: URL.'
            )
        media[_PARTS[kind]].append(source)
        return {**part, kind: ""}

    def emptied_message(message: Message) -> Message:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list | tuple):
            return message
        return {**message, "content": [emptied(part) for part in content]}

    return [emptied_message(message) for message in messages], media
