"""The models of the verbs, and how many threads they get. Read next: `malmoi/llm`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from malmoi.llm import LLM, TextEncoder
    from malmoi.llm.transcribe import Transcriber
    from malmoi.nn.stack import Model

SMALL = 30_000_000
"""Parameters below which one thread is faster than two: 159 against 126 tokens/s with the 8.5M of the shipped model."""


def load_llm(model: str | None) -> "LLM":
    """Load `model`, or the shipped one; a small one runs on one thread of this process (mutates torch's setting).

    Raises what `malmoi.load` raises.
    """
    from malmoi.llm import load

    llm = load(model)
    use_one_thread_if_small(llm.model)
    return llm


def load_text_encoder(model: str) -> "TextEncoder":
    """Load the encoder `model`, as `load_llm` does. Raises what `TextEncoder.load` raises."""
    from malmoi.llm import TextEncoder

    encoder = TextEncoder.load(model)
    use_one_thread_if_small(encoder.model)
    return encoder


def load_transcriber(model: str) -> "Transcriber":
    """Load the speech model `model`, as `load_llm` does. Raises what `Transcriber.load` raises."""
    from malmoi.llm.transcribe import Transcriber

    transcriber = Transcriber.load(model)
    use_one_thread_if_small(transcriber.model)
    return transcriber


def use_one_thread_if_small(model: "Model") -> None:
    """Its matrix products are too short to be shared.

    Threads would mostly wait for each other, and on a machine that does other work too, a hundred times longer than
    they compute.
    """
    import torch

    from malmoi.models import count_parameters

    if count_parameters(model) < SMALL:
        torch.set_num_threads(1)
