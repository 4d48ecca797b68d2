"""Damaged text to learn from: text infilling (BART) and span corruption (T5).

Each has two halves: which spans of a text to take out, at random, and what becomes of the text without them, exactly.
Place in the flow: documents -> whole texts, packed -> ids of one text -> the source and the target of an
encoder-decoder. Read next: `train/denoise_objectives.py`, which puts them together; `models/bart.py`, `models/t5.py`.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple, TypeVar

import torch

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Document, Text
from malmoi.data.samples import Sample
from malmoi.text.tokenizer import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WholeEncoder:
    """Documents -> samples of texts as they are: each token is its own target, until somebody damages the text.

    The text "가나" whose ids are [7, 8] becomes ids [7, 8] and targets [7, 8]. It may be cut anywhere.
    """

    tokenizer: Tokenizer

    @cached_property
    def separator_id(self) -> int:
        """What the tokenizer puts behind a text. Raises ConfigError if that is nothing."""
        ids, _ = self.tokenizer.encode_framed("")
        if not ids:
            raise ConfigError(
                "the tokenizer puts nothing behind a text, so a decoder could not learn to end one. Use the tokenizer "
                "of a T5 or BART; `malmoi tokenizer train --text-to-text` makes one."
            )
        return ids[-1]

    def encode(self, documents: Sequence[Document]) -> list[Sample]:
        """One sample a document, in order. Raises ConfigError for a document that is not a text alone."""
        texts = []
        for document in documents:
            if not isinstance(document, Text):
                raise ConfigError(
                    f"{document.where} is a {type(document).__name__.lower()}, but what is damaged and repaired is a "
                    "text alone. Leave label_field and messages_field out."
                )
            texts.append(document.text)
        wholes = map(torch.tensor, self.tokenizer.encode_batch(texts))
        return [Sample(ids=whole.long(), targets=whole.long(), is_divisible=True) for whole in wholes]


class Pair(NamedTuple):
    """What the encoder reads, and what the decoder is to write."""

    source: list[int]
    target: list[int]


def require_damage(share: float, mean_length: float) -> None:
    """Raise ConfigError unless a share of a text can be taken out in spans of a mean length.

    >>> require_damage(0.15, 0.0)
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: mean_length=0.0 of the spans is not 1 to 500. T5 and BART have 3.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"share={share} of a text to take out is not between 0 and 1. T5 has 0.15, BART 0.3."
        )
    if not 1 <= mean_length <= 500:
        raise ConfigError(f"mean_length={mean_length} of the spans is not 1 to 500. T5 and BART have 3.")


# --- BART ----------------------------------------------------------------------------------------------------


def poisson_spans(
    num_tokens: int, *, random: Random, share: float = 0.3, mean_length: float = 3.0
) -> list[range]:
    """Spans that cover `share` of the tokens, their lengths drawn from a Poisson distribution; some are empty.

    Lewis et al. 2019, arXiv:1910.13461, section 2.2: lengths with a mean of 3; section 5.1: 30 % of the tokens. The
    paper does not say where spans lie. Here each goes to a random place between two tokens that stay; those that meet
    become one, and the last is cut to fit. Draws from `random` (mutates it). Raises ConfigError for a share or a mean
    that is out of range.

    >>> poisson_spans(20, random=Random(8))
    [range(2, 2), range(7, 11), range(15, 17)]
    """
    require_damage(share, mean_length)
    num_masked = round(num_tokens * share)
    lengths_at: dict[int, int] = {}
    num_left = num_masked
    while num_left:
        length = min(_poisson(random, mean_length), num_left)
        place = random.randint(0, num_tokens - num_masked)
        lengths_at[place] = lengths_at.get(place, 0) + length
        num_left -= length
    spans, num_before = [], 0
    for place, length in sorted(lengths_at.items()):
        spans.append(range(place + num_before, place + num_before + length))
        num_before += length
    return spans


def infill_text(tokens: Sequence[T], spans: Sequence[range], *, mask: T) -> list[T]:
    """The text with one `mask` in the place of each span; an empty span is a mask that stands for nothing.

    Lewis et al. 2019, arXiv:1910.13461, figure 2. The target is the text itself.

    >>> infill_text("A B C . D E .".split(), [range(1, 3), range(5, 5)], mask="_")
    ['A', '_', '.', 'D', '_', 'E', '.']
    """
    noisy, place = [], 0
    for span in spans:
        noisy += [*tokens[place : span.start], mask]
        place = span.stop
    return [*noisy, *tokens[place:]]


def permute_sentences(sentences: Sequence[Sequence[T]], *, random: Random) -> list[T]:
    """The sentences of a text in a random order (arXiv:1910.13461, section 2.2). Draws from `random` (mutates it).

    >>> permute_sentences([["A", "B", "C", "."], ["D", "E", "."]], random=Random(0))
    ['D', 'E', '.', 'A', 'B', 'C', '.']
    """
    return [token for sentence in random.sample(sentences, len(sentences)) for token in sentence]


def split_sentences(tokens: Sequence[T], *, ends: Collection[T]) -> list[list[T]]:
    """A text cut behind each token of `ends`, the full stops; several in a row stay together.

    >>> split_sentences("A B . . C D".split(), ends={"."})
    [['A', 'B', '.', '.'], ['C', 'D']]
    """
    sentences: list[list[T]] = [[]]
    for token in tokens:
        last = sentences[-1]
        if last and last[-1] in ends and token not in ends:
            sentences.append([])
        sentences[-1].append(token)
    return sentences


def _poisson(random: Random, mean: float) -> int:
    """How many uniform numbers one can multiply before the product falls to exp(-mean), less one (Knuth)."""
    count, product, least = 0, random.random(), math.exp(-mean)
    while product > least:
        count, product = count + 1, product * random.random()
    return count


# --- T5 ------------------------------------------------------------------------------------------------------


def random_spans(
    num_tokens: int, *, random: Random, share: float = 0.15, mean_length: float = 3.0
) -> list[range]:
    """Spans of `mean_length` on average, never empty and never side by side, that cover `share` of the tokens.

    Raffel et al. 2020, arXiv:1910.10683, section 3.3.4: the number of spans is fixed by the two numbers; how long each
    is, and each stretch before it, is a random split of the whole. Draws from `random` (mutates it). Raises DataError
    for a text of less than two tokens, of which nothing would stay, ConfigError for a share or a mean out of range.

    >>> random_spans(40, random=Random(0))
    [range(25, 29), range(38, 40)]
    """
    require_damage(share, mean_length)
    if num_tokens < 2:
        raise DataError(f"a text of {num_tokens} tokens has no span to take out. Leave it out.")
    num_noise = min(max(round(num_tokens * share), 1), num_tokens - 1)
    num_spans = min(max(round(num_noise / mean_length), 1), num_noise, num_tokens - num_noise)
    spans, end = [], 0
    for kept, noise in zip(
        _split(num_tokens - num_noise, num_spans, random), _split(num_noise, num_spans, random), strict=True
    ):
        spans.append(range(end + kept, end + kept + noise))
        end += kept + noise
    return spans


def corrupt_spans(tokens: Sequence[int], spans: Sequence[range], *, sentinels: Sequence[int]) -> Pair:
    """The text with a sentinel for each span, and the spans, each behind its sentinel; one more ends the target.

    Raffel et al. 2020, arXiv:1910.10683, figure 2: "Thank you for inviting me to your party last week." becomes the
    source "Thank you <X> me to your party <Y> week." and the target "<X> for inviting <Y> last <Z>". In T5's
    vocabulary the sentinels are its last ids, counted down. Raises DataError if there are not enough of them.

    >>> corrupt_spans([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [range(2, 4), range(8, 9)], sentinels=[99, 98, 97])
    Pair(source=[1, 2, 99, 5, 6, 7, 8, 98, 10], target=[99, 3, 4, 98, 9, 97])
    """
    if len(sentinels) <= len(spans):
        raise DataError(
            f"{len(spans)} spans need {len(spans) + 1} sentinels, and there are {len(sentinels)}. Cut the text into "
            "shorter ones, or take out longer spans."
        )
    source: list[int] = []
    target: list[int] = []
    place = 0
    for sentinel, span in zip(sentinels, spans, strict=False):
        source += [*tokens[place : span.start], sentinel]
        target += [sentinel, *tokens[span.start : span.stop]]
        place = span.stop
    return Pair([*source, *tokens[place:]], [*target, sentinels[len(spans)]])


def _split(total: int, num_parts: int, random: Random) -> list[int]:
    """`total` as a sum of whole numbers of 1 or more, every way to do so as likely as any other."""
    cuts = sorted(random.sample(range(1, total), num_parts - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]
