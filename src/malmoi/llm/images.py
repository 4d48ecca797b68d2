"""Images in a prompt: files -> features, and as many placeholders among the ids as there are features.

    messages -> `without_images` -> messages for the chat format, which writes a placeholder for each image | sources
    sources  -> `load_image` -> ImageProcessor -> encoder -> features
    ids      -> each placeholder repeated, once for each feature of its image -> ids, Attachments -> engine

Place in the flow: `llm.py` calls it before a request is made. Read next: `malmoi/media`, `nn/multimodal.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from malmoi.core.errors import RequestError, TemplateError
from malmoi.engine import Attachment
from malmoi.media import ImageProcessor, load_image
from malmoi.media.sources import MediaSource
from malmoi.nn.multimodal import Multimodal
from malmoi.text.chat import Message


class ImageReader:
    """Sees for a model: `processor` makes of an image what the model's tower was trained on."""

    def __init__(self, model: Multimodal, processor: ImageProcessor) -> None:
        self.model, self.processor = model, processor
        self.placeholder = model.placeholders["images"]

    def place(self, ids: Sequence[int], images: Sequence[MediaSource]) -> tuple[list[int], list[Attachment]]:
        """The ids with as many placeholders as an image has features where they have one, and the features there.

        Raises RequestError if there are not as many images as placeholders, MediaError if one cannot be read.
        """
        found = list(ids).count(self.placeholder)
        if found != len(images):
            raise RequestError(
                f"the prompt has {found} places for images (id {self.placeholder}), and {len(images)} images were "
                "given. Check that the chat format is the model's own, and that no text holds the placeholder."
            )
        waiting = iter(self.features(images))
        widened: list[int] = []
        attachments = []
        for token in ids:
            if token != self.placeholder:
                widened.append(token)
                continue
            features = next(waiting)
            attachments.append(Attachment(start=len(widened), features=features))
            widened += [token] * len(features)
        return widened, attachments

    @torch.inference_mode()
    def features(self, images: Sequence[MediaSource]) -> list[Tensor]:
        """What the model's encoder makes of each image. Raises MediaError if one cannot be read."""
        if not images:
            return []
        pixels = np.stack([self.processor(load_image(image)) for image in images])
        features = self.model.encode(images=torch.from_numpy(pixels).to(self.model.device))["images"]
        return list(features.chunk(len(images)))


def without_images(messages: Sequence[Message]) -> tuple[list[Message], list[MediaSource]]:
    """The messages with bare `{"type": "image"}` parts, as chat formats want them, and what the images were, in order.

    >>> seen = {"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "?"}]}
    >>> without_images([seen])
    ([{'role': 'user', 'content': [{'type': 'image'}, {'type': 'text', 'text': '?'}]}], ['cat.png'])

    Raises TemplateError for a part of that type without an image.
    """
    images: list[MediaSource] = []

    def bare(part: Any) -> Any:
        if not isinstance(part, Mapping) or part.get("type") != "image":
            return part
        if not isinstance(part.get("image"), MediaSource):
            raise TemplateError(
                f"an image in a message is {part!r:.80}. "
                'Write it like {"type": "image", "image": "cat.png"}: a path, bytes or a data: URL.'
            )
        images.append(part["image"])
        return {"type": "image"}

    def bare_message(message: Message) -> Message:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list | tuple):
            return message
        return {**message, "content": [bare(part) for part in content]}

    return [bare_message(message) for message in messages], images
