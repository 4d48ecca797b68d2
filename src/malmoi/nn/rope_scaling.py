"""Every published way to stretch rotary positions over a longer context: one value a method.

A scaling says at which frequencies the pairs of a head turn, and two things that most of them leave alone:
what multiplies cosine and sine, and whether the angles depend on how long the sequence is. The arithmetic
follows `transformers` operation by operation, because far from the start a last bit of a frequency shows:
at position 100,000 it turns a pair by 0.01 radian.

Place in the flow: `models/rope_parameters.py` reads one of these from a `config.json`, `rope.py` applies it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError


def periods(theta: float, head_dim: int) -> Float[Tensor, " half"]:
    """Positions a radian, theta^(2i / head_dim) for i in 0 .. head_dim/2 (arXiv:2104.09864, section 3.2.2).

    >>> periods(10_000.0, 4)
    tensor([  1., 100.])
    """
    # The device is said here and below because a model may be built under `torch.device("meta")`.
    return theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)


def frequencies(theta: float, head_dim: int) -> Float[Tensor, " half"]:
    """Radians a position, the inverse of `periods`: what is not scaled.

    >>> frequencies(10_000.0, 4)
    tensor([1.0000, 0.0100])
    """
    return 1.0 / periods(theta, head_dim)


def _require_above(least: float, **numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and not least < number < math.inf:
            raise ConfigError(
                f"{name}={number} of a rotary scaling is not above {least} and finite. Use what the model was "
                "trained with."
            )


@dataclass(frozen=True, kw_only=True)
class _Scaling:
    """What all scalings have, and what most of them leave as it is. Raises ConfigError on values without sense."""

    depends_on_length: ClassVar[bool] = False  # whether a position turns differently in a longer sequence

    factor: float

    def __post_init__(self) -> None:
        _require_above(0, factor=self.factor)

    @property
    def magnitude(self) -> float:
        """What multiplies cosine and sine, so queries and keys, so that scores grow by its square."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class LinearScaling(_Scaling):
    """Position interpolation: every angle divided by `factor` (Chen et al. 2023, arXiv:2306.15595, section 2.3).

    >>> LinearScaling(factor=4.0).frequencies(10_000.0, head_dim=4, length=1)
    tensor([0.2500, 0.0025])
    """

    kind: Literal["linear"] = "linear"

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        return frequencies(theta, head_dim) / self.factor


@dataclass(frozen=True, kw_only=True)
class ProportionalScaling(_Scaling):
    """Turn only the first `partial_rotary_factor` of the pairs, at the frequencies of the whole head (Gemma 4).

    A narrower rotary head, as other families have, would spread all frequencies over fewer pairs instead.

    >>> ProportionalScaling(partial_rotary_factor=0.5).frequencies(10_000.0, head_dim=4, length=1)
    tensor([1., 0.])
    """

    kind: Literal["proportional"] = "proportional"
    factor: float = 1.0
    partial_rotary_factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.partial_rotary_factor <= 1:
            raise ConfigError(
                f"partial_rotary_factor={self.partial_rotary_factor} is no part of a head's pairs. Use one above 0, "
                "up to 1."
            )

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        num_turned = int(self.partial_rotary_factor * head_dim // 2)
        is_turned = torch.arange(head_dim // 2, device="cpu") < num_turned
        return torch.where(is_turned, frequencies(theta, head_dim), 0.0) / self.factor


@dataclass(frozen=True, kw_only=True)
class DynamicScaling(_Scaling):
    """A base that grows with the sequence, once longer than `max_positions`.

    The "Dynamic NTK" interpolation that the paper of YaRN writes down (Peng et al. 2023, arXiv:2309.00071).

    >>> DynamicScaling(factor=2.0, max_positions=8).frequencies(10_000.0, head_dim=4, length=8)
    tensor([1.0000, 0.0100])
    >>> DynamicScaling(factor=2.0, max_positions=8).frequencies(10_000.0, head_dim=4, length=16)
    tensor([1.0000, 0.0033])
    """

    depends_on_length: ClassVar[bool] = True

    kind: Literal["dynamic"] = "dynamic"
    max_positions: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above(0, max_positions=self.max_positions)

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        if head_dim <= 2:
            raise ConfigError(
                f"a rotary scaling changes the base of the angles, but the one pair of head_dim={head_dim} does not "
                "depend on it. Use a wider head, or another scaling."
            )
        stretch = self.factor * max(length, self.max_positions) / self.max_positions - (self.factor - 1)
        return frequencies(theta * stretch ** (head_dim / (head_dim - 2)), head_dim)


@dataclass(frozen=True, kw_only=True)
class YarnScaling(_Scaling):
    """YaRN: divide slow frequencies, keep fast ones, ramp between (Peng et al. 2023, arXiv:2309.00071, section 3).

    `beta_fast` and `beta_slow` are the turns over the original context between which the ramp lies.
    `attention_factor` is the `magnitude`; without it that is computed, by DeepSeek's two `mscale` if given.

    >>> YarnScaling(factor=4.0, original_max_positions=64).frequencies(10_000.0, head_dim=4, length=1)
    tensor([1.0000, 0.0025])
    """

    kind: Literal["yarn"] = "yarn"
    original_max_positions: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above(
            0,
            original_max_positions=self.original_max_positions,
            attention_factor=self.attention_factor,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
        )

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        def pair(turns: float) -> float:
            """The (fractional) pair that turns this often over the original context."""
            period = self.original_max_positions / (turns * 2 * math.pi)
            return head_dim * math.log(period) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001  # a ramp of zero width would divide by zero
        pairs = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")
        kept = 1 - ((pairs - low) / (high - low)).clamp(0, 1)
        divided = 1.0 / (self.factor * periods(theta, head_dim))
        return divided * (1 - kept) + frequencies(theta, head_dim) * kept

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._mscale(self.mscale) / self._mscale(self.mscale_all_dim)
        return self._mscale(1.0)

    @property
    def score_scale(self) -> float:
        """What DeepSeek multiplies its scores by besides, for the sake of the whole head and not its turned part."""
        return self._mscale(self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    def _mscale(self, weight: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * weight * math.log(self.factor) + 1.0


@dataclass(frozen=True, kw_only=True)
class LongRopeScaling(_Scaling):
    """LongRoPE: a searched factor a pair, one set within the original context and one beyond it.

    Ding et al. 2024, arXiv:2402.13753, section 3. `factor` only sets the `magnitude`.

    >>> scaling = LongRopeScaling(
    ...     factor=4.0, original_max_positions=8, short_factor=(1.0, 1.0), long_factor=(2.0, 4.0)
    ... )
    >>> scaling.frequencies(10_000.0, head_dim=4, length=9)
    tensor([0.5000, 0.0025])
    """

    depends_on_length: ClassVar[bool] = True

    kind: Literal["longrope"] = "longrope"
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_positions: int
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above(
            0,
            attention_factor=self.attention_factor,
            **{f"short_factor[{pair}]": factor for pair, factor in enumerate(self.short_factor)},
            **{f"long_factor[{pair}]": factor for pair, factor in enumerate(self.long_factor)},
        )
        _require_above(1, original_max_positions=self.original_max_positions)  # its logarithm divides

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        for name in ("short_factor", "long_factor"):
            if (found := len(getattr(self, name))) != head_dim // 2:
                raise ConfigError(
                    f"{name} has {found} numbers, but a head of {head_dim} has {head_dim // 2} pairs. "
                    "Give one number a pair."
                )
        factors = self.long_factor if length > self.original_max_positions else self.short_factor
        return 1.0 / (torch.tensor(factors, dtype=torch.float32, device="cpu") * periods(theta, head_dim))

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_positions))


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(_Scaling):
    """Llama 3.1's: divide slow frequencies by `factor`, keep fast ones, blend between (its released code and files).

    Slow is less than `low_freq_factor` turns over the original context, fast is more than `high_freq_factor`.

    >>> scaling = Llama3Scaling(
    ...     factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=64
    ... )
    >>> scaling.frequencies(10_000.0, head_dim=4, length=1)
    tensor([1.0000, 0.0012])
    """

    kind: Literal["llama3"] = "llama3"
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_above(0, original_max_positions=self.original_max_positions)
        if not self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                f"low_freq_factor={self.low_freq_factor} is not below high_freq_factor={self.high_freq_factor}. "
                "Llama 3.1 has 1.0 and 4.0."
            )

    def frequencies(self, theta: float, head_dim: int, length: int) -> Float[Tensor, " half"]:
        fast = frequencies(theta, head_dim)
        turns = self.original_max_positions / (2 * math.pi / fast)
        kept = ((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clamp(0, 1)
        return (1 - kept) * fast / self.factor + kept * fast


RopeScaling = (
    LinearScaling | ProportionalScaling | DynamicScaling | YarnScaling | LongRopeScaling | Llama3Scaling
)
