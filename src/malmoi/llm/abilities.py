"""What a model can do besides going on with a text: `Abilities`, for lists of models and for pages.

Place in the flow: `LLM.abilities` says it, from what `chat_format.py` and `infill.py` have found in its files.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What a model can do.

    Attributes:
        thinking: whether it thinks before it answers: "never"; "always"; "switchable": as it is told.
        tools: its chat format shows tools, and its calls are read.
        fills_gaps: it can be asked to fill the gap in a text (`Infill`): its vocabulary has the marks. How well it has
            learned to, no file says.
        media: what else it takes: "image", "audio".
    """

    thinking: Literal["never", "always", "switchable"] = "never"
    tools: bool = False
    fills_gaps: bool = False
    media: frozenset[str] = frozenset()
