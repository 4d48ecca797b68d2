"""MoE-LLaVA: LLaVA over a sparse decoder, upcycled from a dense one (Lin et al. 2024, arXiv:2401.15947).

In every second layer the feed-forward sublayer becomes a mixture of experts, all of them copies of the dense one, so
that training goes on from where the dense model was (section 3.3, stage III; sparse upcycling: Komatsuzaki et al. 2022,
arXiv:2212.05055). The decoder may be of any family whose blocks have one network as `ffn`. Our difference: the weights
of a token's experts are divided by their sum, so that right after upcycling nothing has changed. Read `llava.py` and
`nn/moe.py` first.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from malmoi.core.errors import ConfigError
from malmoi.models import llava
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llava import LlavaConfig
from malmoi.models.llava_shape import read_shape, write_shape
from malmoi.models.nested import nested_rules
from malmoi.nn.block import Residual
from malmoi.nn.mlp import MLP, GatedMLP
from malmoi.nn.moe import MoE, SoftmaxRouter
from malmoi.nn.multimodal import Multimodal
from malmoi.weights.rules import Rename, Rule, Rules


@dataclass(frozen=True, kw_only=True)
class MoELlavaConfig(LlavaConfig):
    """A LLaVA whose decoder has `num_experts` networks in the layers `sparse_layers`, `top_k` of them a token."""

    num_experts: int = 4
    top_k: int = 2
    sparse_layers: tuple[int, ...]


def upcycle(
    model: Multimodal, *, num_experts: int = 4, top_k: int = 2, every: int = 2, seed: int = 0
) -> Multimodal:
    """A copy of a LLaVA that is sparse in each `every`-th layer, the first one included, and computes the same.

    The experts of a layer are equal, and the weights of those that a token uses add up to 1, so whatever the router
    says, the sum is what the one network said. Routers are drawn from `seed`.

    Raises ConfigError if `model` is no LLaVA, or has no dense network where the experts should be.
    """
    if type(model.config) is not LlavaConfig:
        raise ConfigError(f"{type(model.config).__name__} is not a LLaVA's configuration. Upcycle a LLaVA.")
    config = MoELlavaConfig(
        **{field.name: getattr(model.config, field.name) for field in fields(LlavaConfig)},
        num_experts=num_experts,
        top_k=top_k,
        sparse_layers=tuple(range(0, model.config.num_layers, every)),
    )
    sparse = with_experts(copy.deepcopy(model), config)
    sparse.config = config
    generator = torch.Generator().manual_seed(seed)
    for module in sparse.modules():
        if isinstance(module, SoftmaxRouter):
            module.score.weight.data.normal_(std=0.02, generator=generator)
    return sparse.to(device=model.device, dtype=model.dtype).train(model.training)


def with_experts(model: Multimodal, config: MoELlavaConfig) -> Multimodal:
    """Put copies of a layer's network, and a router, in its place (mutates `model` and returns it)."""
    for layer in config.sparse_layers:
        ffn = getattr(model.blocks[layer], "ffn", None)
        mixer = ffn.mixer if isinstance(ffn, Residual) else ffn
        if not isinstance(ffn, Residual) or not isinstance(mixer, MLP | GatedMLP):
            raise ConfigError(
                f"layer {layer} has no dense network but {type(mixer).__name__}. Use a dense decoder."
            )
        router = SoftmaxRouter(
            hidden_size=config.text.hidden_size,
            num_experts=config.num_experts,
            top_k=config.top_k,
            is_normalised=True,
        )
        ffn.mixer = MoE(router=router, experts=[copy.deepcopy(mixer) for _ in range(config.num_experts)])
    return model


def build(config: MoELlavaConfig) -> Multimodal:
    """LLaVA, upcycled before it knows anything. Raises ConfigError as LLaVA does, and if a layer is not dense."""
    return with_experts(llava.build(config), config)


def rules(config: MoELlavaConfig) -> Rules:
    """LLaVA's rules, and those of the dense network once more for an expert each."""
    dense = nested_rules(config.text, theirs="language_model.", ours="").rules
    networks = [rule for rule in dense if all(".ffn.mixer." in pattern for pattern in rule.ours)]
    layer = networks[0].theirs[0].partition(".mlp.")[0]
    router = Rename(layer + ".mlp.router.weight", "blocks.{}.ffn.mixer.router.score.weight")
    return llava.rules(config) + Rules([router, *map(for_experts, networks)])


def for_experts(rule: Rule) -> Rule:
    """The rule of a network, for each of several."""
    theirs, ours = (
        tuple(pattern.replace(place, place + "experts.{}.") for pattern in patterns)
        for place, patterns in ((".mlp.", rule.theirs), (".ffn.mixer.", rule.ours))
    )
    return Rule(theirs, ours, rule.import_, rule.export)


def read_config(reader: ConfigReader) -> MoELlavaConfig:
    """A `config.json` of our own: LLaVA's keys and three more. Raises ConfigError as LLaVA does."""
    shape = read_shape(reader)
    depth = shape["text"].num_layers
    layers: Sequence[Any] = reader.take("sparse_layers", list)
    if not all(type(layer) is int and 0 <= layer < depth for layer in layers):
        raise ConfigError(f"{reader.where}: sparse_layers={layers!r} are not layers from 0 to {depth - 1}.")
    return MoELlavaConfig(
        **shape,
        num_experts=reader.positive("num_experts", int, 4),
        top_k=reader.positive("num_experts_per_tok", int, 2),
        sparse_layers=tuple(layers),
    )


def write_config(config: MoELlavaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_shape(config),
        "num_experts": config.num_experts,
        "num_experts_per_tok": config.top_k,
        "sparse_layers": list(config.sparse_layers),
    }


FAMILIES = (
    Family(
        model_type="moe_llava",
        architecture="MoELlavaForConditionalGeneration",
        config_class=MoELlavaConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "every second layer's network becomes a mixture of experts",
            "the experts begin as copies of it, so that training goes on from the dense model",
        ),
        grew_from="llava",
    ),
)
