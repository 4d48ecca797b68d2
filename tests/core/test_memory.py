"""Freed memory is kept for the next step, where the C library can."""

import platform
import subprocess
import sys

import pytest

PAGE_FAULTS_OF_A_PROMPT = """
import resource, torch
from malmoi.engine import Engine, SamplingParams
from malmoi.models import build_model, initialise, llama

torch.set_num_threads(1)
model = initialise(build_model(llama.sized(8, vocab_size=64, max_positions=4096)), seed=0).to(torch.bfloat16).eval()
engine = Engine(model, prefix_caching=False, tokens_per_step=2048, keeps_freed_memory=True)

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    engine.generate([[1] * 2048], SamplingParams(max_tokens=1, temperature=0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([page_faults() for _ in range(6)][-1])
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides for itself")
def test_a_prompt_finds_the_memory_that_the_one_before_freed() -> None:
    """As the C library has it, ten thousand pages and more come back from the system one by one."""
    command = [sys.executable, "-c", PAGE_FAULTS_OF_A_PROMPT]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < 1000
