"""Sparse experts: each token through the few that it chose, and the same as it is written on paper.

Place in the flow: `moe.MoE` calls `mix_experts`; `tests/nn/test_moe.py` proves it equal to its twin.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Run = Callable[[int, Tensor], Tensor]
"""An expert, by its number, on some tokens (n, D) -> (n, D)."""


def mix_experts(
    x: Float[Tensor, "tokens D"],
    weights: Float[Tensor, "tokens choices"],
    experts: Int[Tensor, "tokens choices"],
    *,
    num_experts: int,
    run: Run,
) -> Float[Tensor, "tokens D"]:
    """The fast twin of `mix_experts_reference`: an expert runs once, on the tokens that chose it, or not at all.

    Pairs of token and choice are sorted by expert, so that each expert gets one contiguous slice; its outputs are
    gathered back to their tokens. A scatter-add would do that too, but a GPU would add in another order each time.
    """
    num_choices = experts.shape[1]
    chosen = experts.flatten()
    order = chosen.argsort(stable=True)
    sizes = chosen.new_zeros(num_experts).scatter_add(0, chosen, torch.ones_like(chosen)).tolist()
    slices = torch.split(x.index_select(0, order // num_choices), sizes)
    runs_idle = torch.compiler.is_compiling()  # sizes are symbols then, and a graph cannot depend on them
    sorted_out = torch.cat(
        [run(expert, part) for expert, part in enumerate(slices) if runs_idle or len(part)]
    )
    by_choice = sorted_out.index_select(0, order.argsort()).view(*experts.shape, -1)
    return (weights.to(x.dtype)[:, :, None] * by_choice).sum(dim=1)


def mix_experts_reference(
    x: Float[Tensor, "tokens D"],
    weights: Float[Tensor, "tokens choices"],
    experts: Int[Tensor, "tokens choices"],
    *,
    num_experts: int,
    run: Run,
) -> Float[Tensor, "tokens D"]:
    """The sum over e of weight(e) * expert_e(x), every expert on every token, most with the weight 0.

    >>> chosen, weights = torch.tensor([[2, 0]]), torch.tensor([[0.75, 0.25]])
    >>> run = lambda expert, x: 10.0**expert * x
    >>> mix_experts_reference(torch.ones(1, 1), weights, chosen, num_experts=3, run=run)   # 75 + 0.25
    tensor([[75.2500]])
    """
    weight_of = weights.new_zeros(len(x), num_experts).scatter(1, experts, weights).to(x.dtype)
    return torch.stack([weight_of[:, e, None] * run(e, x) for e in range(num_experts)]).sum(dim=0)
