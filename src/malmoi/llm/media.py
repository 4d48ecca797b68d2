"""Images and sounds in a prompt: files -> features, and as many placeholders among the ids as there are features.

    messages -> `parts.py` -> messages for the chat format, which writes a placeholder for each | the files
    files    -> `malmoi.media` -> the model's encoder -> features
    ids      -> each placeholder repeated, once for each feature of its file -> ids, Attachments -> engine

Place in the flow: `llm.py` calls it before a request is made. How many features a file makes is known before an
encoder runs, so what does not fit the context costs nothing. Read next: `malmoi/media`, `nn/multimodal.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from malmoi.core.errors import MediaError, RequestError
from malmoi.engine import Attachment
from malmoi.media import (
    ImageProcessor,
    SoundProcessor,
    load_image,
    load_image_processor,
    load_sound,
    load_sound_processor,
)
from malmoi.media.image import MAX_PIXELS
from malmoi.media.sources import MediaSource, is_web_url
from malmoi.nn.audio import num_sound_features
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Model
from malmoi.nn.vision import ImageEncoder

Media = Mapping[str, Sequence[MediaSource]]
"""The files of each medium, by the name that the model has for it: "images", "audio"."""

MAX_FILES = 64
"""How many images and sounds together a request may have: reading a file takes time also where the context is large."""

MAX_FETCHED = 8
"""How many of them may be fetched, one after the other: a host may be slow."""

ROWS_AT_ONCE = 8
"""How many images, or chunks of sounds, are in memory together, in all layers of an encoder."""


@dataclass(frozen=True, kw_only=True)
class MediaPolicy:
    """What the files of a request may be.

    `max_image_pixels`: of one image, before it is decoded. `fetch`: from a URL to its bytes, such as
    `media.remote.RemoteMedia`; None: nothing is fetched, and a URL is an error.
    """

    max_image_pixels: int = MAX_PIXELS
    fetch: Callable[[str], bytes] | None = None


@dataclass(frozen=True)
class _Prepared:
    """A file as rows of what its encoder takes, by the names of `Multimodal.encode`, and how many features it makes."""

    rows: dict[str, np.ndarray]
    num_features: int


class MediaReader:
    """Sees and hears for a model; the processors make of a file what its towers were trained on.

    A processor may be given as the directory that it is read from when the first file comes. `policy` says what the
    files may be; it may be replaced.
    """

    def __init__(
        self,
        model: Model,
        *,
        image_processor: ImageProcessor | Path | None = None,
        sound_processor: SoundProcessor | Path | None = None,
    ) -> None:
        self.policy = MediaPolicy()
        self._model = model
        self._image_source, self._sound_source = image_processor, sound_processor

    @property
    def placeholders(self) -> dict[str, int]:
        """The id of each medium's placeholder; none if the model only reads text."""
        return self._model.placeholders if isinstance(self._model, Multimodal) else {}

    def check(self, media: Media) -> None:
        """Raise RequestError for one file without a list, a medium that the model does not take, or too many files."""
        for medium, sources in media.items():
            if not isinstance(sources, list | tuple):  # a string would be a list of its characters
                raise RequestError(
                    f"{medium}=... is of the type {type(sources).__name__}, not a list. Give a list, of one file too: "
                    f"{medium}=[...]."
                )
            if sources and medium not in self.placeholders:
                takes = ", ".join(self.placeholders) or "text alone"
                raise RequestError(
                    f"this model takes no {medium}, but {takes}. Leave them out, or load one that does."
                )
        if (num_files := sum(map(len, media.values()))) > MAX_FILES:
            raise RequestError(
                f"the request has {num_files} images and sounds, and {MAX_FILES} are allowed. Ask about fewer."
            )
        if (count := num_urls(media)) > MAX_FETCHED:
            raise RequestError(
                f"the request has {count} URLs to fetch, and {MAX_FETCHED} are allowed. Send the files themselves."
            )

    def place(self, ids: Sequence[int], media: Media) -> tuple[list[int], list[Attachment]]:
        """The ids with as many placeholders as a file has features where they have one, and the features there.

        Raises RequestError as `check` does, if there are not as many files of a medium as placeholders, or if the
        context has no room; MediaError if a file cannot be read, CheckpointError if the model's processor is missing.
        """
        self.check(media)
        for medium, placeholder in self.placeholders.items():
            found, num_files = list(ids).count(placeholder), len(media.get(medium, ()))
            if found != num_files:
                raise RequestError(
                    f"the prompt has {found} places for {medium} (id {placeholder}), and {num_files} were given. "
                    "Check that the chat format is the model's own, and shows them."
                )
        if not any(media.values()):
            return list(ids), []
        waiting = {
            self.placeholders[medium]: iter(self._encode(medium, prepared))
            for medium, prepared in self._prepare(media, num_ids=len(ids)).items()
            if prepared
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

    def _prepare(self, media: Media, *, num_ids: int) -> dict[str, list[_Prepared]]:
        """The files of each medium, as far as they go without an encoder, and only if the context has room for all.

        `num_ids` are the prompt's, with a placeholder for each file. An image always makes as many features; of a
        sound they follow from its length, so it is decoded, and looked at no further if it does not fit.
        """
        images, sounds = media.get("images", ()), media.get("audio", ())
        num_tokens = num_ids
        if images:
            num_tokens += len(images) * (self._features_an_image - 1)
        self._check_room(num_tokens)
        heard = []
        for number, source in enumerate(sounds, start=1):
            processor = self._sound_processor
            sound = load_sound(self._fetched(source), sample_rate=processor.sample_rate)
            num_features = sum(map(num_sound_features, processor.frames_of_sound(len(sound))))
            if not num_features:
                raise MediaError(
                    f"sound {number} is so short, {len(sound)} samples, that the model does not hear it. "
                    "Give a longer one."
                )
            num_tokens += num_features - 1
            self._check_room(num_tokens)
            found = processor(sound)
            heard.append(_Prepared({"audio": found.mel, "audio_mask": found.mask}, num_features))
        most = self.policy.max_image_pixels
        seen = [
            _Prepared({"images": self._image_processor(image)[None]}, self._features_an_image)
            for image in (load_image(self._fetched(source), max_pixels=most) for source in images)
        ]
        return {"images": seen, "audio": heard}

    def _fetched(self, source: MediaSource) -> MediaSource:
        """The bytes of a URL, if any are fetched; another source as it is."""
        if self.policy.fetch is not None and isinstance(source, str) and is_web_url(source):
            return self.policy.fetch(source)
        return source

    def _check_room(self, num_tokens: int) -> None:
        limit = self._model.max_positions
        if num_tokens >= limit:
            raise RequestError(
                f"with its images and sounds the prompt has {num_tokens} tokens or more, but the model's context has "
                f"room for {limit}, the answer included. Give fewer or shorter ones."
            )

    @torch.inference_mode()
    def _encode(self, medium: str, prepared: Sequence[_Prepared]) -> list[Tensor]:
        """What the model's encoder makes of each file, `ROWS_AT_ONCE` rows at a time."""
        model = self._model
        assert isinstance(model, Multimodal), "what is prepared was checked"
        batches = []
        for name in prepared[0].rows:
            rows = torch.from_numpy(np.concatenate([file.rows[name] for file in prepared]))
            batches.append([(name, some) for some in torch.split(rows, ROWS_AT_ONCE)])
        features = [
            model.encode(**{name: some.to(model.device) for name, some in batch})[medium]
            for batch in zip(*batches, strict=True)
        ]
        return list(torch.split(torch.cat(features), [file.num_features for file in prepared]))

    @property
    def _features_an_image(self) -> int:
        assert isinstance(self._model, Multimodal), "what is prepared was checked"
        encoder = self._model.encoders["images"]
        assert isinstance(encoder, ImageEncoder), "images have an encoder of images"
        return encoder.num_features

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


def num_urls(media: Media) -> int:
    """How many of the files are addresses of the web."""
    return sum(isinstance(one, str) and is_web_url(one) for sources in media.values() for one in sources)
