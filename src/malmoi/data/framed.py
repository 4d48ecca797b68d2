"""Documents -> samples for an encoder: each text in its frame, `[CLS] text [SEP]`, and what was said of it.

The same place in the flow as `samples.Encoder`. Read next: `mask.py`, which hides tokens of a packed batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from malmoi.core.errors import ConfigError
from malmoi.data.documents import Document, Labelled, Text
from malmoi.data.samples import NO_TARGET, Sample
from malmoi.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class FramedEncoder:
    """Texts as an encoder model reads them.

    Without `target_of` nothing is said of a text: it has no target, and may be cut anywhere. With it, texts are
    labelled, and `target_of(document)` is the target at the first token, a label's number or a score. The two texts
    of a pair are framed one by one, and do not see each other.

    A review whose label has the number 1 becomes ids [1, 276, 283, 2] and targets [1, -100, -100, -100].
    """

    tokenizer: Tokenizer
    target_of: Callable[[Labelled], int | float] | None = None

    @cached_property
    def separator_id(self) -> int:
        """The last token of a frame. Raises ConfigError if the tokenizer frames nothing."""
        ids, _ = self.tokenizer.encode_framed("")
        if len(ids) < 2:
            raise ConfigError(
                "the tokenizer puts no [CLS] and [SEP] around a text, which an encoder needs. Use the tokenizer of "
                "an encoder; `malmoi tokenizer train --encoder` makes one."
            )
        return ids[-1]

    def encode(self, documents: Sequence[Document]) -> list[Sample]:
        """One sample a document. Raises ConfigError for a document of the wrong kind, DataError for a wrong label."""
        return [self._encode(document) for document in documents]

    def _encode(self, document: Document) -> Sample:
        if self.target_of is None and isinstance(document, Text):
            ids = torch.tensor(self.tokenizer.encode_framed(document.text)[0])
            return Sample(ids=ids, targets=torch.full_like(ids, NO_TARGET), is_divisible=True)
        if self.target_of is not None and isinstance(document, Labelled):
            texts = [document.text] if document.pair is None else [document.text, document.pair]
            parts = [self.tokenizer.encode_framed(text)[0] for text in texts]
            whole = torch.tensor([token for part in parts for token in part])
            target = torch.tensor(self.target_of(document))
            targets = torch.full_like(whole, NO_TARGET, dtype=target.dtype)
            targets[0] = target
            return Sample(
                ids=whole, targets=targets, is_divisible=False, segments=tuple(len(part) for part in parts)
            )
        wanted = "a text alone" if self.target_of is None else "a text with a label"
        raise ConfigError(
            f"{document.where} is a {type(document).__name__.lower()}, but what is learned here needs {wanted}. "
            "Set label_field where texts have labels, and nowhere else."
        )
