"""Rotary position embedding: queries and keys are turned by their position, so scores see only distances.

`Rope` turns positions into a `Rotation` once a forward (`Context.rotated`); `rotate` applies it to queries and
keys in each layer. Read next: `rope_scaling` (how the angles are stretched over longer contexts), `attention`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.kernels.rowwise import rotate_halves
from malmoi.nn.rope_scaling import RopeScaling, frequencies


class Rotation(NamedTuple):
    """Cosine and sine of the angle of each position and pair; the head axis is left to broadcast."""

    cos: Float[Tensor, "B T 1 half"]
    sin: Float[Tensor, "B T 1 half"]


def rotate(x: Float[Tensor, "B T N H"], rotation: Rotation) -> Float[Tensor, "B T N H"]:
    """Turn each pair (x[i], x[i + H/2]) by its angle (Su et al. 2021, arXiv:2104.09864, section 3.4.2).

    Our difference is Hugging Face's: the halves of a head are paired, where the paper pairs neighbours. The two
    differ by a permutation of the rows of the projections.

    >>> quarter = Rotation(cos=torch.zeros(1, 1, 1, 1), sin=torch.ones(1, 1, 1, 1))   # pi / 2
    >>> rotate(torch.tensor([[[[3.0, 4.0]]]]), quarter)
    tensor([[[[-4.,  3.]]]])
    """
    return rotate_halves(x, rotation.cos, rotation.sin)


def rotate_both(
    q: Float[Tensor, "B T N H"], k: Float[Tensor, "B T K H"], rotation: Rotation
) -> tuple[Float[Tensor, "B T N H"], Float[Tensor, "B T K H"]]:
    """`rotate` queries and keys: both at once where a token's keys lie behind its queries, as in a joined product.

    >>> quarter = Rotation(cos=torch.zeros(1, 1, 1, 1), sin=torch.ones(1, 1, 1, 1))   # pi / 2
    >>> q, k = torch.tensor([[[[3.0, 4.0], [5.0, 6.0]]]]).split(1, dim=2)
    >>> rotate_both(q, k, quarter)
    (tensor([[[[-4.,  3.]]]]), tensor([[[[-6.,  5.]]]]))
    """
    num_heads, head_dim = q.shape[2:]
    is_behind = (
        q.shape[:2] == (1, 1)  # of several tokens the queries would lie apart, and had to be copied
        and q.stride() == k.stride()
        and k.storage_offset() == q.storage_offset() + num_heads * q.stride(2)
        and k.untyped_storage().data_ptr() == q.untyped_storage().data_ptr()
    )
    if not is_behind or torch.is_grad_enabled():
        return rotate(q, rotation), rotate(k, rotation)
    both = q.as_strided((*q.shape[:2], num_heads + k.shape[2], head_dim), q.stride())
    rotated = rotate(both, rotation)
    return rotated[:, :, :num_heads], rotated[:, :, num_heads:]


def rotate_neighbours(x: Float[Tensor, "B T N H"], rotation: Rotation) -> Float[Tensor, "B T N H"]:
    """Turn each pair (x[2i], x[2i + 1]) by its angle, as the paper pairs them (arXiv:2104.09864, section 3.2.2).

    >>> quarter = Rotation(cos=torch.zeros(1, 1, 1, 2), sin=torch.ones(1, 1, 1, 2))   # pi / 2
    >>> rotate_neighbours(torch.tensor([[[[3.0, 4.0, 5.0, 6.0]]]]), quarter)
    tensor([[[[-4.,  3., -6.,  5.]]]])
    """
    cos, sin = rotation.cos.to(x.dtype), rotation.sin.to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """`theta`, the base that sets the slowest pair's period, and how the angles are stretched, if at all.

    Raises ConfigError unless `theta` is above 1.
    """

    theta: float = 10_000.0
    scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if not self.theta > 1:
            raise ConfigError(f"theta={self.theta} is not above 1. Llama's first models have 10000.0.")

    def frequencies(self, head_dim: int, length: int) -> Float[Tensor, " half"]:
        """Radians a position for each pair, in a sequence of `length` positions; always on the CPU.

        >>> RopeConfig(theta=100.0).frequencies(head_dim=4, length=1)
        tensor([1.0000, 0.1000])
        """
        if self.scaling is None:
            return frequencies(self.theta, head_dim)
        return self.scaling.frequencies(self.theta, head_dim, length)


class Rope(nn.Module):
    """Positions -> `Rotation` (Su et al. 2021, arXiv:2104.09864), in fp32 whatever the model's precision.

    With a scaling that depends on the length, each token turns as its own sequence's length says, so a sequence
    is rotated alike alone and in a batch; keys that were cached when the sequence was shorter keep their angle.
    Raises ConfigError if a head cannot be cut into pairs.

    >>> rope = Rope(RopeConfig(theta=100.0), head_dim=4)
    >>> rope(positions=torch.tensor([[0, 1]]), sequence_lengths=torch.tensor([[2, 2]])).sin
    tensor([[[[0.0000, 0.0000]],
    <BLANKLINE>
             [[0.8415, 0.0998]]]])
    """

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        super().__init__()
        if head_dim % 2:
            raise ConfigError(
                f"head_dim={head_dim} is odd, but a rotation turns pairs. Use an even head_dim."
            )
        self.config, self.head_dim = config, head_dim
        # Not a buffer: `model.to(torch.bfloat16)` would round it, and building on the meta device would lose it.
        self.frequencies = config.frequencies(head_dim, length=0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rope":
        """Follow the model to another device (`model.to("cuda")`), but never to another precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.frequencies.device)).device
        self.frequencies = self.config.frequencies(self.head_dim, length=0).to(device)
        return self

    def forward(self, positions: Int[Tensor, "B T"], sequence_lengths: Int[Tensor, "B T"]) -> Rotation:
        # Already there, unless the model was built elsewhere and never moved, as on the meta device.
        radians = self.frequencies.to(positions.device)
        scaling = self.config.scaling
        if scaling is not None and scaling.depends_on_length:
            lengths, which = torch.unique(sequence_lengths, return_inverse=True)
            table = [self.config.frequencies(self.head_dim, length) for length in lengths.tolist()]
            radians = torch.stack(table).to(positions.device)[which]
        angles = (positions[..., None].float() * radians)[:, :, None]
        rotation = Rotation(angles.cos(), angles.sin())
        if scaling is None or scaling.magnitude == 1.0:
            return rotation
        return Rotation(*(part * scaling.magnitude for part in rotation))
