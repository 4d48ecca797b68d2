"""Making an open model one's own: another vocabulary first (`resize`, `shrink`).

    a model directory, a new tokenizer -> RESIZE -> a model directory -> training that goes on

Place in the flow: after `text.vocabulary.expand` and `text.vocabulary.shrink`, before training. Read next: `resize.py`.
"""

from malmoi.adapt.resize import INITS, resize
from malmoi.adapt.shrink import shrink_model

__all__ = ["INITS", "resize", "shrink_model"]
