"""From nothing to the first token of the shipped model: a fresh process, against one that only imports torch.

What counts is the median of the differences of neighbours; the target is at most 1.0 s.
"""

import argparse
import statistics
import subprocess
import sys
import time

IMPORT_TORCH = "import torch; print(flush=True)"
FIRST_TOKEN = """
import sys
import malmoi

malmoi.load(*sys.argv[1:]).generate("안녕하세요", malmoi.SamplingParams(max_tokens=1))
print(flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs=1, default=[], help="another model directory")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    def measure() -> tuple[float, float]:
        return seconds_until_it_speaks(IMPORT_TORCH), seconds_until_it_speaks(FIRST_TOKEN, *arguments.model)

    measure()  # bytecode and page cache
    beyond = []
    for number in range(1, arguments.rounds + 1):
        alone, token = measure()
        beyond.append(token - alone)
        said = f"import torch {alone:.2f} s, first token {token:.2f} s, beyond {beyond[-1]:.2f} s"
        print(f"{number}/{arguments.rounds}: {said}", flush=True)
    print(
        f"beyond import torch: median {statistics.median(beyond):.2f} s (from {min(beyond):.2f} to {max(beyond):.2f})"
    )


def seconds_until_it_speaks(program: str, *arguments: str) -> float:
    """Wall-clock seconds from the start of a fresh interpreter until its first line."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            sys.exit("the process ended without its first token")
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
