"""What the processor is that numbers were measured on. No number means anything without it."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

INSTRUCTIONS = ("amx_tile", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "asimd", "sve")
"""Those that decide how fast a matrix product is, as Linux calls them."""
UNKNOWN_CACHE = 64 * 2**20  # where the system does not say: more than most processors have


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`last_cache` and `memory` in bytes; `threads` are those that PyTorch was told to use."""

    processor: str
    cores: int
    threads: int
    instructions: tuple[str, ...]
    last_cache: int
    memory: int
    torch: str

    def __str__(self) -> str:
        return (
            f"{self.processor}, cores: {self.cores}, threads: {self.threads}, {' '.join(self.instructions) or '-'}, "
            f"last-level cache {self.last_cache / 2**20:.0f} MiB, memory {self.memory / 2**30:.0f} GiB, "
            f"PyTorch {self.torch}"
        )


def this_machine(processors: Path = Path("/proc/cpuinfo")) -> Machine:
    """Ask the system; what it does not say is empty, or, of the cache, `UNKNOWN_CACHE`.

    >>> this_machine().cores >= 1
    True
    """
    facts = dict(_facts(processors))
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        processor=facts.get("model name", platform.machine()),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=tuple(name for name in INSTRUCTIONS if name in flags),
        last_cache=max(_cache_sizes(), default=UNKNOWN_CACHE),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        torch=torch.__version__,
    )


def _facts(file: Path) -> Iterator[tuple[str, str]]:
    """The lines `name : value` of the first processor."""
    if file.is_file():
        for line in file.read_text("utf-8").partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            yield name.strip(), value.strip()


def _cache_sizes() -> Iterator[int]:
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        size = file.read_text("ascii").strip()
        yield int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]]
