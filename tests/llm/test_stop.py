"""Stop strings, against the plain definition: the text up to where the first complete one begins."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from malmoi.llm.stop import StopStrings

texts = st.text(alphabet="ab한글\n", max_size=30)
stops = st.lists(st.text(alphabet="ab한\n", min_size=1, max_size=4), max_size=3)


def cut(text: str, strings: list[str]) -> tuple[str, bool]:
    """The definition: read one character at a time until the text so far ends with a stop string."""
    for end in range(len(text) + 1):
        lengths = [len(string) for string in strings if text[:end].endswith(string)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@given(text=texts, strings=stops, cuts=st.lists(st.integers(0, 100), max_size=10))
def test_the_text_ends_before_the_first_stop_string_however_it_was_cut(
    text: str, strings: list[str], cuts: list[int]
) -> None:
    finder = StopStrings(strings)
    shown = "".join(finder.push(piece) for piece in pieces_of(text, cuts))
    is_found = finder.is_found
    assert (shown + finder.finish(), is_found) == cut(text, strings)


@given(text=texts, strings=stops)
def test_only_what_a_stop_string_may_begin_with_is_held_back(text: str, strings: list[str]) -> None:
    finder = StopStrings(strings)
    shown = ""
    for end, character in enumerate(text, start=1):
        shown += finder.push(character)
        if finder.is_found:
            break
        held = text[len(shown) : end]
        assert text[:end] == shown + held
        assert held == "" or any(string.startswith(held) for string in strings)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopStrings([]).push("끝") == "끝"
