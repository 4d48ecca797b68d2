"""What keeps the experts of a sparse model equally busy while it learns.

Left alone, an expert that is a little better is chosen more, learns more, and is chosen more again. Two cures, by how
the routers of the model choose (`nn/moe.py`):

    SoftmaxRouter   a second loss, which falls as the load evens out         Mixtral, Qwen
    SigmoidRouter   a bias that each step moves towards an even load         DeepSeek-V3

Place in the flow: `Forward` collects the routers' scores, `penalty` reads them, the loop calls `move_biases` after the
optimiser's step. Read next: `losses.load_balancing_loss`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.moe import MoE, Router, SigmoidRouter
from malmoi.train.losses import load_balancing_loss


class Balance:
    """The load of each expert in a step, and what is done about it (mutates the routers' biases).

    `routers` are those of the model, in the order in which they run; without one all of this does nothing.
    `aux_weight` multiplies the load-balancing loss of softmax routers, which is `top_k` when the load is even: 0.01 in
    the Switch Transformer (Fedus et al. 2021, arXiv:2101.03961, section 2.2), and with 0 there is none. `bias_speed`
    is how far a step moves a bias, up for an expert with less than the mean load, down for one with more: 0.001 in
    DeepSeek-V3 (arXiv:2412.19437, sections 2.1.2 and 4.2). Our difference: no second loss within a sequence beside it.

    >>> from malmoi.nn.moe import SigmoidRouter
    >>> router = SigmoidRouter(hidden_size=2, num_experts=3, top_k=1, is_normalised=True)
    >>> balance = Balance([router], bias_speed=0.5)
    >>> balance.penalty([torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])])
    tensor(0.)
    >>> balance.move_biases()               # two tokens, one and none, where one would be even
    >>> router.bias.data, balance.measured()
    (tensor([-0.5000,  0.0000,  0.5000]), {'busiest_expert': 2.0})
    """

    def __init__(
        self, routers: Sequence[Router], *, aux_weight: float = 0.0, bias_speed: float = 0.0
    ) -> None:
        self.routers, self.aux_weight, self.bias_speed = routers, aux_weight, bias_speed
        self.begin_step()

    def begin_step(self) -> None:
        """Forget the load of the step before."""
        self._loads: list[Float[Tensor, " E"]] = []
        self._losses: list[Float[Tensor, ""]] = []

    def penalty(self, router_logits: Sequence[Float[Tensor, "tokens E"]]) -> Float[Tensor, ""]:
        """What a micro-batch adds to its mean loss; counts the load (mutates this). A router has its scores each."""
        with torch.no_grad():
            loads = [_load(*scores) for scores in zip(self.routers, router_logits, strict=True)]
        self._loads = [a + b for a, b in zip(self._loads, loads, strict=True)] if self._loads else loads
        balanced = [n for n, router in enumerate(self.routers) if not isinstance(router, SigmoidRouter)]
        if not balanced:
            return torch.zeros((), device=router_logits[0].device)
        load = torch.stack([loads[n] for n in balanced]).sum(dim=0)
        loss = load_balancing_loss(
            [router_logits[n] for n in balanced],
            num_experts=len(load),
            top_k=self.routers[balanced[0]].top_k,
            load=load,
        )
        self._losses.append(loss.detach())
        return self.aux_weight * loss

    @torch.no_grad()
    def move_biases(self) -> None:
        """Make the experts that had too little more likely, those that had too much less."""
        for router, load in zip(self.routers, self._loads, strict=True):
            if isinstance(router, SigmoidRouter):
                router.bias.add_((load.mean() - load).sign(), alpha=self.bias_speed)

    def measured(self) -> dict[str, float]:
        """Of the step: the load of the busiest expert of any layer, where 1 is even, and the load-balancing loss."""
        if not self.routers:
            return {}
        told = {"busiest_expert": max((load.max() / load.mean()).item() for load in self._loads)}
        if self._losses:
            told["balance_loss"] = torch.stack(self._losses).mean().item()
        return told


def routers_of(model: nn.Module) -> list[Router]:
    """The routers of a model, in the order in which they run."""
    return [module.router for module in model.modules() if isinstance(module, MoE)]


def _load(router: Router, logits: Float[Tensor, "tokens E"]) -> Float[Tensor, " E"]:
    """How many tokens chose each expert."""
    experts = router.route(logits).experts.flatten()
    return torch.bincount(experts, minlength=logits.shape[1]).float()
