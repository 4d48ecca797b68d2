"""Freed memory is kept for the next step, where the C library can."""

import platform
import subprocess
import sys

import pytest

PAGE_FAULTS_OF_A_STEP = """
import resource, sys, torch
from malmoi.core.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    return torch.ones(2048, 2816).mul(2).sum()        # two pieces of 23 MB

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def num_page_faults(how: str) -> int:
    command = [sys.executable, "-c", PAGE_FAULTS_OF_A_STEP, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides for itself")
def test_a_step_finds_the_memory_that_the_one_before_freed() -> None:
    """Against the C library's own way, in which pieces go back to the system and come back page by page."""
    assert num_page_faults("kept") < 100 < 1000 < num_page_faults("as it is")
