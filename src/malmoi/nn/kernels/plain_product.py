"""`y = x W^T + b` with a plain W on a GPU: PyTorch's product, but for a single row.

Place in the flow: `nn/packed.py` calls this. Read next: `gpu/product.py`; `packed_product.py`, the same on a processor.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.kernels.on_gpu import gpu_kernels_for


def plain_product(
    x: Float[Tensor, "*batch I"], matrix: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "*batch O"]:
    """The product in the precision of x, summed in fp32."""
    if x.numel() == x.shape[-1] and (kernels := gpu_kernels_for(x, matrix)) is not None:
        of_row: Float[Tensor, "*batch O"] = kernels.row_product(x.contiguous(), matrix, bias)
        return of_row
    return F.linear(x, matrix.to(x.dtype), bias)
