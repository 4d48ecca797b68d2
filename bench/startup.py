"""From nothing to the first token of the shipped model: a fresh process, against one that only imports torch."""

import argparse
import statistics
import subprocess
import sys
import time

FIRST_TOKEN = """
import malmoi
stream = malmoi.load().stream("안녕하세요", malmoi.SamplingParams(max_tokens=8, temperature=0))
next(iter(stream))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds_of("import torch"), seconds_of(FIRST_TOKEN)  # bytecode and page cache
    extra = []
    for number in range(1, rounds + 1):
        torch_alone, first_token = seconds_of("import torch"), seconds_of(FIRST_TOKEN)
        extra.append(first_token - torch_alone)
        print(f"{number}/{rounds}: import torch {torch_alone:.2f} s, first token {first_token:.2f} s, beyond {extra[-1]:.2f} s")
    print(f"beyond import torch: median {statistics.median(extra):.2f} s (from {min(extra):.2f} to {max(extra):.2f})")


def seconds_of(program: str) -> float:
    """Wall-clock seconds of a fresh interpreter that runs `program`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
