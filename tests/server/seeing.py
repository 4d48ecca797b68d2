"""A tiny model that is shown images, for the tests of the server and of its page."""

from malmoi.llm import LLM
from malmoi.media import ImageProcessor
from malmoi.media.image_processor import ShortestEdge
from malmoi.testing.models import tiny_llava
from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.chat import ChatTemplate


def seeing_llm() -> LLM:
    shown = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}"
    )
    processor = ImageProcessor(
        resize=ShortestEdge(pixels=8), crop=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    return LLM(
        tiny_llava(),
        ByteTokenizer([*SPECIAL_TOKENS, "<image>"]),
        template=ChatTemplate(shown),
        image_processor=processor,
    )
