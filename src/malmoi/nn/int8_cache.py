"""Keys and values in 8 bits: half the memory of bf16, for what rounding costs.

Place in the flow: `Engine(cache_dtype="int8")` makes these in the place of `cache.PagedCache`; layers see no
difference, and kernels read the 8 bits where they lie (`kernels/paged_decode.py`). Read `cache` first; docs/lab-log.md,
section 10, has what it costs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.cache import KeyValueSpec, PagedCache


class Int8PagedCache(PagedCache):
    """A pool whose numbers are steps from -127 to 127 of a scale, one for each token and head.

    The largest number of a head's key or value sets its scale, so none is cut off, and each is wrong by half a step at
    most: 0.4 % of the largest. A scale is kept in fp32; what is not finite stays so.

    >>> spec = KeyValueSpec(num_kv_heads=1, head_dim=2)
    >>> pool = Int8PagedCache(4, spec, dtype=torch.float32, device="cpu")
    >>> slot, k = torch.tensor([3]), torch.tensor([[[1.0, -0.5]]])
    >>> pool.write(slot, k, k)
    >>> pool.k[3], pool.read(slot)[0]
    (tensor([[127, -64]], dtype=torch.int8), tensor([[[ 1.0000, -0.5039]]]))
    >>> Int8PagedCache.bytes_per_token(spec, 4)        # 2 x 2 numbers and 2 scales; in fp32 16
    12
    """

    def __init__(
        self, num_slots: int, spec: KeyValueSpec, *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        super().__init__(num_slots, spec, dtype=torch.int8, device=device)
        self.dtype = dtype
        k_scale, v_scale = (torch.empty(num_slots, spec.num_kv_heads, device=device) for _ in "kv")
        self.scales: tuple[Tensor, Tensor] = (k_scale, v_scale)

    @staticmethod
    def bytes_per_token(spec: KeyValueSpec, element_size: int) -> int:
        return spec.bytes_per_token(1) + 2 * spec.num_kv_heads * torch.float32.itemsize

    def write(
        self,
        slots: Int[Tensor, " T"],
        k: Float[Tensor, "*batch T K H"],
        v: Float[Tensor, "*batch T K Hv"],
    ) -> None:
        for stored, scales, given in zip((self.k, self.v), self.scales, (k, v), strict=True):
            if not given.shape[-1]:  # values that are a part of the keys
                continue
            new = given.float().flatten(0, -3)
            scale = new.abs().amax(dim=-1) / 127
            steps = new / scale.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
            stored.index_copy_(0, slots, steps.round().to(torch.int8))
            scales.index_copy_(0, slots, scale)

    def read(self, slots: Int[Tensor, " S"]) -> tuple[Float[Tensor, "S K H"], Float[Tensor, "S K Hv"]]:
        k, v = (
            stored.index_select(0, slots) * scale.index_select(0, slots)[..., None]
            for stored, scale in zip((self.k, self.v), self.scales, strict=True)
        )
        return k.to(self.dtype), v.to(self.dtype)

    def copy(self, to: Int[Tensor, " slots"], source: Int[Tensor, " slots"]) -> None:
        super().copy(to, source)
        for scale in self.scales:
            scale.index_copy_(0, to, scale.index_select(0, source))
