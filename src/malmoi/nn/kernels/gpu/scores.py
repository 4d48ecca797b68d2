"""Scores of queries and keys, as both kinds of attention compute them on a GPU.

Place in the flow: `decode.py`, single queries, and `prefill.py`, the many of a prompt. Both are flash attention (Dao et
al. 2022, arXiv:2205.14135, section 3.1): scores of a few keys exist at a time, in fp32, and the softmax is corrected as
larger ones come.
"""

from typing import no_type_check

import triton
import triton.language as tl

KEYS = 64
"""So many keys are looked at at a time."""


@triton.jit
@no_type_check
def scores(q, keys, scale, soft_cap):
    """Scores of queries (rows) and keys (rows), in fp32."""
    scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale
    if soft_cap > 0:
        bent = 2.0 * scores / soft_cap
        scores = soft_cap * (1.0 - 2.0 / (tl.exp(bent) + 1.0))  # tanh
    return scores
