"""Ink: what a template does to the text, it does to the inked text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import TemplateError
from malmoi.text.ink import Ink, overlaps

texts = st.text(st.sampled_from('가a<| \n\t"\\\x00\ue000\U000f0000🙂'), max_size=12)


@given(texts, texts)
def test_ink_reads_back_as_what_was_written(mine: str, yours: str) -> None:
    ink = Ink(mine + yours)
    both = ink.write(mine, 1) + ink.write(yours, 2)
    assert ink.read(both) == mine + yours
    assert len(both) == len(mine + yours)


@pytest.mark.parametrize(
    "change",
    [str.strip, str.split, len, bool, lambda text: text[2:5], lambda text: text[::-1], lambda text: text + text,
     lambda text: text.replace("\n", ""), lambda text: text.splitlines()],
)  # fmt: skip
@given(text=texts)
def test_cutting_and_joining_do_to_ink_what_they_do_to_text(
    change: Callable[[str], object], text: str
) -> None:
    ink = Ink(text)
    changed = change(ink.write(text, 1))
    if isinstance(changed, str):
        changed = ink.read(changed)
    if isinstance(changed, list):
        changed = [ink.read(piece) for piece in changed]
    assert changed == change(text)


def test_spans_tell_authors_apart() -> None:
    ink = Ink("")
    text = "<s>" + ink.write("나는", 1) + ink.write("너는", 2) + "</s>"
    assert ink.spans(text) == [(1, (3, 5)), (2, (5, 7))]
    assert ink.split_after_last(text) == (text[:7], "</s>")
    assert ink.split_after_last("</s>") == ("", "</s>")


def test_ink_runs_out_with_an_error() -> None:
    private = [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]
    ink = Ink("".join(map(chr, private[2:])))
    assert ink.write("가나", 1) == chr(private[0]) + chr(private[1])
    with pytest.raises(TemplateError, match="137,000"):
        ink.write("다", 1)


@given(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_overlap_is_a_character_in_common(edges: tuple[int, int], covered: set[int]) -> None:
    span = (min(edges), max(edges))
    others = [(at, at + 1) for at in sorted(covered)]
    assert overlaps(span, others) == bool(covered & set(range(*span)))
