"""Mixture of experts: a feed-forward sublayer of many networks, of which each token uses a few.

    router    a token -> which experts, and how much of each: SoftmaxRouter, SigmoidRouter
    experts   networks of one shape, such as `mlp.GatedMLP`
    shared    one more that every token uses, where the family has it

Place in the flow: stands in a block where an MLP would. Read next: `kernels/experts.py`, `models/mixtral.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.context import Context
from malmoi.nn.kernels.experts import mix_experts
from malmoi.nn.linear import Linear


class Routing(NamedTuple):
    """What a router says of each token: its scores of all experts, and the choices with their weights."""

    logits: Float[Tensor, "tokens E"]
    weights: Float[Tensor, "tokens choices"]
    experts: Int[Tensor, "tokens choices"]


@dataclass(frozen=True, kw_only=True)
class GroupLimit:
    """Leaves the choice to the experts of the `num_kept` best of `num_groups` groups of neighbours.

    Where a group lives on one device, a token's experts are then on few (DeepSeek-V2, arXiv:2405.04434, section
    2.2.2). A group is as good as its `num_best` best experts together: 1 in DeepSeek-V2, 2 in V3
    (arXiv:2412.19437, section 2.1.2, "Node-Limited Routing").

    >>> limit = GroupLimit(num_groups=2, num_kept=1, num_best=2)
    >>> limit(torch.tensor([[0.9, 0.1, 0.6, 0.5]]))   # 0.6 + 0.5 is more than 0.9 + 0.1
    tensor([[  -inf,   -inf, 0.6000, 0.5000]])
    """

    num_groups: int
    num_kept: int
    num_best: int

    def __call__(self, scores: Float[Tensor, "tokens E"]) -> Float[Tensor, "tokens E"]:
        grouped = scores.view(len(scores), self.num_groups, -1)
        best = grouped.topk(self.num_best, dim=-1).values.sum(dim=-1).topk(self.num_kept, dim=-1).indices
        is_kept = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter(-1, best, True)
        return grouped.masked_fill(~is_kept[..., None], float("-inf")).flatten(-2)


class Router(nn.Module, ABC):
    """Scores every expert for a token and chooses `top_k`; a subclass says in `route` what a score is.

    The weights of the chosen are their scores, with `is_normalised` divided by their sum, times `scale`. All of it in
    fp32 whatever the precision of the model, since near a tie a rounding sends a token elsewhere (Fedus et al. 2021,
    arXiv:2101.03961, section 2.4, "selective precision"). Raises ConfigError if experts, choices and `limit` do not
    fit.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_experts: int,
        top_k: int,
        is_normalised: bool,
        scale: float = 1.0,
        limit: GroupLimit | None = None,
    ) -> None:
        super().__init__()
        _require_enough_experts(num_experts, top_k, limit)
        self.top_k, self.is_normalised, self.scale, self.limit = top_k, is_normalised, scale, limit
        self.score = Linear(hidden_size, num_experts, bias=False)

    def forward(self, x: Float[Tensor, "tokens D"]) -> Routing:
        return self.route(self.score(x.float()))

    @abstractmethod
    def route(self, logits: Float[Tensor, "tokens E"]) -> Routing:
        """The choice that these scores lead to."""

    def choose(
        self,
        logits: Float[Tensor, "tokens E"],
        scores: Float[Tensor, "tokens E"],
        *,
        by: Float[Tensor, "tokens E"],
    ) -> Routing:
        """The experts that are best `by` one number, weighted by another."""
        open_to_choice = by if self.limit is None else self.limit(by)
        experts = open_to_choice.topk(self.top_k, dim=-1).indices
        weights = scores.gather(-1, experts)
        if self.is_normalised:
            # All scores of the chosen may have underflowed to 0.
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return Routing(logits, weights * self.scale, experts)


class SoftmaxRouter(Router):
    """The likeliest experts, weighted by their probability (Shazeer et al. 2017, arXiv:1701.06538, section 2.1).

    Normalised, that is the softmax over the logits of the chosen alone (Mixtral, arXiv:2401.04088, section 2.1). Our
    difference: no noise is added.

    >>> router = SoftmaxRouter(hidden_size=2, num_experts=3, top_k=2, is_normalised=True)
    >>> router.score.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> routing = router(torch.tensor([[1.0, 0.0]]))      # logits 2, 0, 1
    >>> routing.experts, routing.weights                  # e^2 / (e^2 + e^1)
    (tensor([[0, 2]]), tensor([[0.7311, 0.2689]], grad_fn=<MulBackward0>))
    """

    def route(self, logits: Float[Tensor, "tokens E"]) -> Routing:
        probabilities = logits.softmax(dim=-1)
        return self.choose(logits, probabilities, by=probabilities)


class SigmoidRouter(Router):
    """Each expert is scored on its own, and chosen by score plus bias (DeepSeek-V3, arXiv:2412.19437, section 2.1.2).

    The bias balances the load without a loss: training moves it up for an expert that gets too little
    (`train.balance`). No gradient reaches it, and it has no part in the weights. It stays in fp32 when the model moves
    to another precision, because it moves in steps that bf16 would lose.

    >>> router = SigmoidRouter(hidden_size=2, num_experts=3, top_k=1, is_normalised=True, scale=2.5)
    >>> _ = router.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    >>> routing = router(torch.ones(1, 2))
    >>> routing.experts, routing.weights
    (tensor([[1]]), tensor([[2.5000]], grad_fn=<MulBackward0>))
    """

    def __init__(self, *, num_experts: int, **rest: Any) -> None:
        super().__init__(num_experts=num_experts, **rest)
        self.bias = nn.Parameter(torch.zeros(num_experts), requires_grad=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """No expert is preferred."""
        self.bias.zero_()

    def route(self, logits: Float[Tensor, "tokens E"]) -> Routing:
        scores = logits.sigmoid()
        return self.choose(logits, scores, by=scores + self.bias.float())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SigmoidRouter":
        """Follow the model to another device, but never from fp32 to another precision."""
        before = self.bias.data
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before.dtype == torch.float32 != self.bias.dtype:
            self.bias.data = before.to(self.bias.device)
        return self


class MoE(nn.Module):
    """`shared(x) + sum of weight_e * expert_e(x)` over the experts that the router chose for a token.

    Shazeer et al. 2017, arXiv:1701.06538, section 2. The experts are modules of their own, called as any sublayer,
    `expert(x, context)`, on the tokens that chose them: loading copies nothing, and each projection stays a `Linear`.
    No token is dropped and no expert has a capacity. An expert that nobody chose does not run, and its gradient is
    None. Appends the router's logits to `context.router_logits` where that is a list (mutates it):
    `train.losses.load_balancing_loss` reads them.

    >>> from malmoi.nn.mlp import GatedMLP
    >>> router = SoftmaxRouter(hidden_size=8, num_experts=4, top_k=2, is_normalised=True)
    >>> moe = MoE(router=router, experts=[GatedMLP(8, 16) for _ in range(4)])
    >>> moe(torch.zeros(2, 3, 8), Context.rows(2, 3, specs=[])).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self, *, router: Router, experts: Sequence[nn.Module], shared: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.router = router
        self.experts = nn.ModuleList(experts)
        self.shared = shared

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        routing: Routing = self.router(x.flatten(0, 1))
        if context.router_logits is not None:
            context.router_logits.append(routing.logits)
        mixed = mix_experts(
            x.flatten(0, 1),
            routing.weights,
            routing.experts,
            num_experts=len(self.experts),
            run=lambda expert, tokens: self.experts[expert](tokens[None], context)[0],
        )
        out = mixed.view(x.shape)
        return out if self.shared is None else out + self.shared(x, context)


def _require_enough_experts(num_experts: int, top_k: int, limit: GroupLimit | None) -> None:
    num_open, where = num_experts, ""
    if limit is not None:
        if num_experts % limit.num_groups or limit.num_best > num_experts // limit.num_groups:
            raise ConfigError(
                f"num_experts={num_experts} do not make {limit.num_groups} equal groups of at least "
                f"{limit.num_best}. Use a multiple of {limit.num_groups * limit.num_best}."
            )
        if limit.num_kept > limit.num_groups:
            raise ConfigError(
                f"{limit.num_kept} groups cannot be kept of {limit.num_groups}. Keep {limit.num_groups} or fewer."
            )
        num_open = num_experts // limit.num_groups * limit.num_kept
        where = f" in {limit.num_kept} of {limit.num_groups} groups"
    if not 0 < top_k <= num_open:
        raise ConfigError(
            f"top_k={top_k} experts a token cannot be chosen of {num_open}{where}. Use 1 to {num_open}."
        )
