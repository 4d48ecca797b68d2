"""Proof of the loss mask before step 0: which words of a conversation the model will learn to say.

`cli/watch.py` prints the samples in colour, `report.py` keeps them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from malmoi.data.documents import Conversation
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.data.sources import SourceConfig, read_documents


@dataclass(frozen=True, kw_only=True)
class MaskedSample:
    r"""A conversation as the model sees it, in runs of text that are learned (True) or not.

    Of a question and its answer: ("<|im_start|>user\n1 더하기 1은? ... assistant\n", False), ("2.<|im_end|>", True).
    """

    pieces: tuple[tuple[str, bool], ...]
    num_learned: int
    num_tokens: int


def masked_samples(
    sources: Sequence[SourceConfig], encoder: Encoder, *, count: int = 3
) -> list[MaskedSample]:
    """The first `count` conversations of the first source that has any, rendered and masked as in training.

    Raises TrainingError for a conversation in which nothing is learned.
    """
    for source in sources:
        if source.messages_field is not None:
            documents = islice(read_documents(source), count)
            return [
                _masked(document, encoder) for document in documents if isinstance(document, Conversation)
            ]
    return []


def _masked(conversation: Conversation, encoder: Encoder) -> MaskedSample:
    [sample] = encoder.encode([conversation])
    ids = [*sample.ids.tolist(), sample.targets[-1].item()]
    # A token is learned where it is somebody's target: that of the token before it.
    is_learned = [False, *(target != NO_TARGET for target in sample.targets.tolist())]
    pieces: list[tuple[str, bool]] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or is_learned[end] != is_learned[start]:
            pieces.append((encoder.tokenizer.decode(ids[start:end]), is_learned[start]))
            start = end
    return MaskedSample(pieces=tuple(pieces), num_learned=sum(is_learned), num_tokens=len(ids))
