"""Documents -> samples: ids, and for each id the next one to learn, or -100 where nothing is learned.

A sample is what `pack.py` lays end to end. Prose may be cut anywhere; a conversation may not, because an
answer without its question teaches the wrong thing. Read next: `framed.py`, the same for encoders; `mixture.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from malmoi.core.errors import ConfigError, DataError, TrainingError
from malmoi.data.documents import Conversation, Document, Labelled, Text, Tokenized
from malmoi.data.prose import ProseEncoder
from malmoi.data.token_manifest import Encoding
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer

NO_TARGET = -100  # what torch's cross-entropy ignores


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`targets[i]` is what follows `ids[i]`, or `NO_TARGET`; of a labelled text, at its first token, the label.

    `segments` are the lengths of parts that do not see each other, as the two texts of a pair; empty: there is one.
    A token file's are views of it, 16 or 32 bits each.
    """

    ids: Integer[Tensor, " T"]
    targets: Shaped[Tensor, " T"]
    is_divisible: bool
    segments: tuple[int, ...] = ()

    def part(self, start: int, end: int) -> "Sample":
        """What a batch takes of it. Ids in 64 bits: of those of a token file this is the only copy before the batch."""
        ids, targets = self.ids[start:end], self.targets[start:end]
        return replace(
            self, ids=ids.long(), targets=targets if targets.is_floating_point() else targets.long()
        )


@runtime_checkable  # the test runner checks annotations
class SampleEncoder(Protocol):
    """Turns documents into samples. `separator_id` fills what is left over at the end of a batch."""

    @property
    def separator_id(self) -> int: ...

    def encode(self, documents: Sequence[Document]) -> list[Sample]:
        """One sample a document, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What a decoder learns from: after each token the next. Needs a chat template only if there are conversations.

    With separator 0, the text "가나" whose ids are [7, 8] becomes ids [0, 7, 8] and targets [7, 8, 0]: the
    separator begins a document, and to end one is learned like every other token.
    A conversation is rendered exactly as it will be when served, with no separator.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None = None
    separator: str = "<|endoftext|>"

    @cached_property
    def prose(self) -> ProseEncoder:
        return ProseEncoder(tokenizer=self.tokenizer, separator=self.separator)

    @property
    def separator_id(self) -> int:
        """The separator's id. Raises `ConfigError` if the tokenizer has no such token."""
        return self.prose.separator_id

    def encode(self, documents: Sequence[Document]) -> list[Sample]:
        """One sample a document, in order.

        Raises:
            TrainingError: a conversation has nothing to learn.
            DataError: a token file was made with another tokenizer, or is damaged.
        """
        encoded = iter(self.prose.encode([document for document in documents if isinstance(document, Text)]))
        samples = []
        for document in documents:
            match document:
                case Text():
                    samples.append(_next_tokens(torch.tensor(next(encoded), dtype=torch.long)))
                case Tokenized():
                    samples.append(self._tokenized(document))
                case Conversation():
                    samples.append(self._chat(document))
                case Labelled():
                    raise ConfigError(
                        f"{document.where} has a label, which nobody learns where after each token the next is "
                        "learned. Leave label_field out, or set objective.kind to labels or similarity."
                    )
        return samples

    def _tokenized(self, document: Tokenized) -> Sample:
        made_with, ours = document.shard.encoding, self.prose.encoding
        if made_with != ours:
            raise DataError(
                f"{document.shard.directory} was encoded with another tokenizer: {_short(made_with)}; this run's: "
                f"{_short(ours)}. Use the model and tokenizer that it was made for, or encode the files again."
            )
        return _next_tokens(torch.from_numpy(document.shard.ids(document.number)))

    def _chat(self, conversation: Conversation) -> Sample:
        where = conversation.where
        if self.template is None:
            raise ConfigError(f"{where} is a conversation, but there is no chat template to render it with.")
        rendered = self.template.render(conversation.messages, self.tokenizer)
        learned = [at for at, is_learned in enumerate(rendered.loss_mask) if is_learned and at > 0]
        if not learned:
            roles = ", ".join(str(message.get("role")) for message in conversation.messages)
            raise TrainingError(
                f"{where}: nothing to learn in this sample, no token of it is an assistant's "
                f"(roles: {roles}). Remove the row, or give it an assistant's answer."
            )
        # What follows the last learned token, often a newline, would be read for nothing.
        whole = torch.tensor(rendered.ids[: learned[-1] + 1])
        is_learned = torch.tensor(rendered.loss_mask[: len(whole)])
        targets = torch.where(is_learned, whole, NO_TARGET)
        return Sample(ids=whole[:-1], targets=targets[1:], is_divisible=False)


def _next_tokens(whole: Integer[Tensor, " T"]) -> Sample:
    return Sample(ids=whole[:-1], targets=whole[1:], is_divisible=True)


def _short(encoding: Encoding) -> str:
    digest = encoding.tokenizer_sha256[:16]
    return f"{encoding.vocab_size} tokens, SHA-256 {digest}..., separator {encoding.separator_id}"
