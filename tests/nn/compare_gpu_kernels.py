"""Every kernel for GPUs against its twin in PyTorch; run by `test_gpu_kernels.py`, or by hand on a GPU:

    python tests/nn/compare_gpu_kernels.py cuda                        the machine's own arithmetic
    TRITON_INTERPRET=1 python tests/nn/compare_gpu_kernels.py cpu      Triton's interpreter, anywhere

Prints a line a comparison, and exits with 1 if any is too far off.
"""

import itertools
import sys

import torch
from triton.runtime import interpreter

from malmoi.nn.kernels import gpu
from malmoi.nn.kernels.packing import round_to, unround
from malmoi.nn.kernels.paged_decode import paged_decode_reference
from malmoi.nn.kernels.prefill import prefill_attention_reference
from malmoi.nn.kernels.rowwise import rms_norm_reference, rotate_halves_reference

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Of the largest value: a few roundings."""


def mend_the_interpreter() -> None:
    """Triton 3.6 gives `int` an array of one number, which NumPy 2.4 no longer takes for a number."""
    patch = interpreter._patch_lang_tensor

    def patch_and_mend(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_and_mend


def main(device: str) -> int:
    mend_the_interpreter()
    torch.manual_seed(0)
    torch.set_default_device(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    failures = 0
    narrow = torch.bfloat16 if device == "cuda" else torch.float16  # the interpreter multiplies no bf16
    for dtype in (torch.float32, narrow):
        for name, ours, theirs in comparisons(dtype):
            error = float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
            is_close = error <= TOLERANCE[dtype]
            failures += not is_close
            print(f"{'ok  ' if is_close else 'FAIL'} {error:.1e}  {str(dtype).removeprefix('torch.')} {name}")
    return int(failures > 0)


def comparisons(dtype):
    def some(*shape):
        return torch.randn(shape).to(dtype)

    with torch.inference_mode():
        whole = some(1, 5, 200)
        weight = some(96)
        part = whole[..., 8:104]
        yield (
            "rms_norm",
            gpu.rms_norm(part, weight, 1e-5, num_axes=1, stride=200),
            rms_norm_reference(part, weight, 1e-5),
        )
        heads = some(1, 5, 10, 24)[:, :, 2:6]
        weight = some(24)
        yield (
            "rms_norm of heads",
            gpu.rms_norm(heads, weight, 1e-5, num_axes=2, stride=240),
            rms_norm_reference(heads, weight, 1e-5),
        )
        for head_dim in (24, 64):
            heads = some(1, 5, 10, head_dim)[:, :, 2:6]
            angles = torch.rand(1, 5, 1, head_dim // 2)
            cos, sin = angles.cos(), angles.sin()
            wide = rotate_halves_reference(heads.float(), cos, sin).to(dtype)
            yield f"rotate {head_dim}", gpu.rotate_halves(heads, cos, sin, stride=10 * head_dim), wide
        gate, up = some(1, 3, 3000).chunk(2, dim=-1)
        silu = torch.nn.functional.silu(gate) * up
        yield "gated", gpu.gated(gate, up, 1.0, 0.0, gate_stride=3000, up_stride=3000), silu
        x, y = some(2, 700), some(2, 700)
        yield "add", gpu.add(x, y), x + y
        for bias, (o, i) in itertools.product((None, True), ((67, 129), (128, 2048), (33, 5000))):
            x, matrix = some(1, 1, i), some(o, i)
            b = None if bias is None else some(o)
            product = torch.nn.functional.linear(
                x.double(), matrix.double(), None if b is None else b.double()
            )
            yield f"row_product {o}x{i}", gpu.row_product(x, matrix, b), product
        yield from rounded_products(some)
        yield from stores(some)
        yield from attentions(some)


def rounded_products(some):
    for precision, group_size, num_rows, bias in (
        ("int8", 32, 1, None), ("int4", 32, 1, True), ("int8", 64, 20, True), ("int4", 128, 3, None)
    ):  # fmt: skip
        x, rounded = some(num_rows, 300), round_to(precision, some(70, 300).float(), group_size)
        b = None if bias is None else some(70)
        weight = unround(rounded, out_size=70, in_size=300).double()
        bits = int(precision.removeprefix("int"))
        product = gpu.rounded_product(x, rounded.codes, rounded.scales, b, bits=bits, out_size=70)
        want = torch.nn.functional.linear(x.double(), weight, None if b is None else b.double())
        yield f"rounded_product {precision} of groups of {group_size}, {num_rows} rows", product, want


def stores(some):
    k_pool, v_pool = some(20, 2, 24), some(20, 2, 16)
    slots = torch.tensor([7, 3, 19])
    joined = some(1, 3, 4, 24)
    k, v = joined[:, :, :2], some(1, 3, 2, 16)
    want = k_pool.clone(), v_pool.clone()
    want[0][slots], want[1][slots] = k[0], v[0]
    gpu.store(k_pool, v_pool, slots, k, v, k_stride=96, v_stride=32)
    yield "store k", k_pool, want[0]
    yield "store v", v_pool, want[1]


def attentions(some):
    rules = itertools.product((None, 37), (None, 5.0), ((4, 4, 64, 64), (6, 2, 32, 48)))
    for window, soft_cap, (num_heads, num_kv_heads, head_dim, value_dim) in rules:
        size = 16
        lengths = [1, 150, 64]
        k_pool, v_pool = some(40 * size, num_kv_heads, head_dim), some(40 * size, num_kv_heads, value_dim)
        tables = torch.randperm(40)[:36].view(3, 12).int()
        said = {"scale": 0.3, "window": window, "soft_cap": soft_cap, "block_size": size}
        q = some(3, num_heads, head_dim)
        of = (q, k_pool, v_pool, tables, torch.tensor(lengths).int())
        name = f"window {window}, cap {soft_cap}, heads {num_heads}/{num_kv_heads} {head_dim}/{value_dim}"
        yield f"decode {name}", gpu.paged_decode(*of, **said), paged_decode_reference(*of, **said)
        for is_causal, num_queries, has_blocks in (
            (True, 150, True),
            (True, 20, True),
            (False, 33, True),
            (True, 9, False),
        ):
            q = some(num_queries, num_heads, head_dim)
            rest = {"num_keys": 150, "is_causal": is_causal, "blocks": tables[1] if has_blocks else None}
            of = (q, k_pool, v_pool)
            yield (
                f"prefill {num_queries} causal {is_causal} blocks {has_blocks} {name}",
                gpu.prefill_attention(*of, **said, **rest),
                prefill_attention_reference(*of, **said, **rest),
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
