"""The model of `chat` and `generate`, and how many threads it gets. Read next: `malmoi/llm`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from malmoi.llm import LLM

SMALL = 30_000_000
"""Parameters below which one thread is faster than two: 159 against 126 tokens/s with the 8.5M of the shipped model."""


def load_llm(model: str | None) -> "LLM":
    """Load `model`, or the shipped one; a small one runs on one thread of this process (mutates torch's setting).

    Its matrix products are too short to be shared: threads would mostly wait for each other, and on a machine that
    does other work too, a hundred times longer than they compute. Raises what `malmoi.load` raises.
    """
    import torch

    from malmoi.llm import load
    from malmoi.models import count_parameters

    llm = load(model)
    if count_parameters(llm.model) < SMALL:
        torch.set_num_threads(1)
    return llm
