"""Time two things in turn and compare them: A B A B ..., so that both see the same weather."""

import statistics
import time
from collections.abc import Callable


def measure_ratio(
    ours: Callable[[], object], peer: Callable[[], object], *, rounds: int, label: str
) -> float:
    """Print each pair's seconds and return the median of peer / ours: above 1, ours is faster."""
    ratios = []
    for number in range(1, rounds + 1):
        our_seconds, peer_seconds = _seconds(ours), _seconds(peer)
        ratios.append(peer_seconds / our_seconds)
        print(
            f"{label} {number}/{rounds}: ours {our_seconds:.4f} s, peer {peer_seconds:.4f} s, x {ratios[-1]:.2f}"
        )
    median = statistics.median(ratios)
    print(f"{label}: median ratio x {median:.2f} (from {min(ratios):.2f} to {max(ratios):.2f})\n", flush=True)
    return median


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
