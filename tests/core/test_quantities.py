"""Sizes and times are read as people write them, and nothing else is."""

import doctest

import pytest

from malmoi.core import quantities
from malmoi.core.quantities import memory, read_seconds, read_size


def test_the_examples_are_true() -> None:
    assert doctest.testmod(quantities).failed == 0


@pytest.mark.parametrize("text", ["", "x", "10 weeks", "m10", "-5", "1e3", "5m5", "１０"])
def test_what_is_no_time_and_no_size_is_refused(text: str) -> None:
    for read in (read_seconds, read_size):
        with pytest.raises(ValueError, match="no (span of time|size)"):
            read(text)


@pytest.mark.parametrize("num_bytes", [1, 4096, 5 * 2**20, 16 * 2**30])
def test_a_size_that_is_written_is_read_back(num_bytes: int) -> None:
    assert read_size(memory(num_bytes)) == num_bytes
