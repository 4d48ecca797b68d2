"""Gaps in texts: the marks with which a model was trained to fill them, found in its vocabulary.

    Infill(before, after) -> GAP FORMAT: marks and texts in the order of the model -> ids

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle" (arXiv:2207.14255), train a decoder
on documents whose middle was moved to the end. A family has its own names for the three marks, and one order:

| marks                                                           | order               | who has them               |
|-----------------------------------------------------------------|---------------------|----------------------------|
| `<|fim_prefix|>` `<|fim_suffix|>` `<|fim_middle|>`              | before, after       | Qwen2.5-Coder, CodeGemma   |
| `<fim_prefix>` `<fim_suffix>` `<fim_middle>`                    | before, after       | StarCoder                  |
| `<fim-prefix>` `<fim-suffix>` `<fim-middle>`                    | before, after       | SantaCoder                 |
| `▁<PRE>` `▁<SUF>` `▁<MID>`                                      | before, after       | CodeLlama                  |
| `<｜fim▁begin｜>` `<｜fim▁hole｜>` `<｜fim▁end｜>`                | before, after       | DeepSeek-Coder             |
| `[PREFIX]` `[SUFFIX]`                                           | after, before       | Codestral                  |

The middle ends with a stop id, or with one of the family's other marks, none of which is ever text. Read next:
`request_builder.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from malmoi.llm.prompt import Infill
from malmoi.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class GapFormat:
    """How a family writes a text with a gap: a mark before each part, and behind them the one that asks for the middle.

    `middle` is "" where the middle follows the text before it without one; then the text behind it comes first.
    `others` end a middle too.
    """

    before: str
    after: str
    middle: str
    others: tuple[str, ...] = ()

    def ids(self, gap: Infill, tokenizer: Tokenizer) -> list[int]:
        """What the model goes on from. Neither text becomes a mark, whatever it says."""
        before = [*self._mark(self.before, tokenizer), *tokenizer.encode(gap.before)]
        after = [*self._mark(self.after, tokenizer), *tokenizer.encode(gap.after)]
        if not self.middle:
            return [*after, *before]
        return [*before, *after, *self._mark(self.middle, tokenizer)]

    def ends(self, tokenizer: Tokenizer) -> frozenset[int]:
        """The marks, behind which no middle goes on."""
        names = (self.before, self.after, self.middle, *self.others)
        return frozenset(token for name in names for token in self._mark(name, tokenizer))

    def _mark(self, name: str, tokenizer: Tokenizer) -> Sequence[int]:
        token = tokenizer.token_id(name) if name else None
        return [] if token is None else [token]


FORMATS = (
    GapFormat(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    ),
    GapFormat("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<fim_pad>", "<file_sep>")),
    GapFormat("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<fim-pad>",)),
    GapFormat("▁<PRE>", "▁<SUF>", "▁<MID>", ("▁<EOT>",)),
    GapFormat("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    GapFormat("[PREFIX]", "[SUFFIX]", ""),
)


def find(tokenizer: Tokenizer) -> GapFormat | None:
    """The first of the formats whose marks are all tokens; None: the model fills no gaps.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> tokenizer = ByteTokenizer(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    >>> find(tokenizer).ids(Infill("a", "b"), tokenizer)
    [0, 100, 1, 101, 2]
    """
    for each in FORMATS:
        if all(
            tokenizer.token_id(name) is not None for name in (each.before, each.after, each.middle) if name
        ):
            return each
    return None
