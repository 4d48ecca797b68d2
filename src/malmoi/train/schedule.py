"""The learning rate over a run, as a factor of its peak.

`factor(progress)` is a pure function of the share of the run that is done, 0 to 1, so a schedule has no state to
save. Who multiplies it: `Optimizers.set_factor`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from malmoi.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up, then half a cosine down to `final` (Loshchilov & Hutter 2017, arXiv:1608.03983, section 3).

    `warmup` is a share of the run. Raises ConfigError unless 0 <= warmup < 1.

    >>> [round(Cosine(warmup=0.1).factor(p), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """

    kind: Literal["cosine"] = "cosine"
    warmup: float = 0.02
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup={self.warmup} is a share of the run. Give 0 or more, but less than 1.")

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        angle = math.pi * (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(angle))


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """Warm up, hold, and decay over the last part of the run (Hu et al. 2024, arXiv:2404.06395, section 4).

    `warmup` and `decay` are shares of the run; ConfigError unless they fit into it. While the rate holds, a
    checkpoint can be carried on into a longer run: nothing was decayed for the shorter one.

    >>> [round(WarmupStableDecay(warmup=0.1, decay=0.2).factor(p), 3) for p in (0.05, 0.5, 0.9, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """

    kind: Literal["wsd"] = "wsd"
    warmup: float = 0.01
    decay: float = 0.3
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise ConfigError(
                f"warmup={self.warmup} and decay={self.decay} are shares of the run. Give 0 or more, together "
                "at most 1."
            )

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        if progress <= 1 - self.decay:
            return 1.0
        return self.final + (1 - self.final) * (1 - progress) / self.decay


Schedule = Cosine | WarmupStableDecay
