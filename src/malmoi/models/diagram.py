"""A model as a drawing: what its modules say of themselves, in the order in which they run.

Read off the built module tree, so that it cannot differ from what runs: norms stand where they stand, layers that
differ are drawn apart. Here are only words and numbers; `cli/inspect_text.py` and `cli/inspect_page.py` draw them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from malmoi.models.base import count_parameters
from malmoi.nn.attention import Attention, CrossAttention
from malmoi.nn.audio import AudioStem, SoundEncoder
from malmoi.nn.block import Block, PostNorm, PreNorm, Residual, Sandwich
from malmoi.nn.cache import CachedLayer, KeyValueSpec
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.linear import Linear
from malmoi.nn.mla import LatentAttention
from malmoi.nn.mlp import MLP, GatedMLP
from malmoi.nn.moe import MoE
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.norm import LayerNorm, OffsetRMSNorm, RMSNorm
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.rope import Rope
from malmoi.nn.stack import EncoderDecoder, Model, Stack
from malmoi.nn.vision import ImageEncoder, PatchEmbedding


@dataclass(frozen=True)
class Part:
    """One box: a brick's name, what is to say about it, its parameters."""

    name: str
    details: tuple[str, ...]
    num_parameters: int


@dataclass(frozen=True)
class Sum:
    """A residual sublayer: `inside` runs beside the stream and is added to it, `after` runs on the sum."""

    inside: tuple[Part, ...]
    after: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Layers:
    """Blocks that are alike: which of the stack's they are, what one of them holds."""

    numbers: tuple[int, ...]
    sublayers: tuple[Sum | Part, ...]
    num_parameters: int

    @property
    def ranges(self) -> str:
        """Their numbers, from 1, neighbours as ranges.

        >>> Layers((0, 1, 2, 4), (), 0).ranges
        '1-3, 5'
        """
        starts = [n for n in self.numbers if n - 1 not in self.numbers]
        ends = [n for n in self.numbers if n + 1 not in self.numbers]
        return ", ".join(
            f"{a + 1}-{b + 1}" if a < b else f"{a + 1}" for a, b in zip(starts, ends, strict=True)
        )


@dataclass(frozen=True)
class Column:
    """One stack from its input to its output."""

    title: str
    items: tuple[Part | Layers, ...]


def diagram(model: Model) -> tuple[Column, ...]:
    """The stacks of a model, in the order in which they run."""
    if isinstance(model, EncoderDecoder):
        return _column("encoder", model.encoder), _column("decoder", model.decoder)
    if isinstance(model, Multimodal):
        media = [_medium(name, encoder) for name, encoder in model.encoders.items()]
        return *media, _column("decoder", model)
    assert isinstance(model, Stack), f"{type(model).__name__} is of a kind that has no drawing yet"
    return (_column(type(model).__name__.lower(), model),)


def _medium(name: str, encoder: nn.Module) -> Column:
    assert isinstance(encoder, ImageEncoder | SoundEncoder)
    column = _column(name, encoder.tower)
    rest = [child for child in encoder.children() if child is not encoder.tower]
    return Column(name, (*column.items, *map(part, rest)))


def _column(title: str, stack: Stack) -> Column:
    items: list[Part | Layers] = []
    for name, child in stack.named_children():
        if child is stack.blocks:
            items += _layers(stack)
        elif name not in ("ropes", "encoders", "norm", "head", "stem") and not isinstance(child, nn.Identity):
            items.append(part(child))
    # Registered before or after the blocks, but run in this order.
    for name in ("norm", "head"):
        last = getattr(stack, name, None)
        if isinstance(last, nn.Module) and not isinstance(last, nn.Identity):
            items.append(part(last, name="head" if name == "head" else None))
    if isinstance(stem := getattr(stack, "stem", None), nn.Module):
        items.insert(0, part(stem))
    return Column(title, tuple(items))


def _layers(stack: Stack) -> list[Layers]:
    """The blocks in groups of equal drawing, in the order of their first."""
    groups: dict[tuple[Sum | Part, ...], list[int]] = {}
    for number, block in enumerate(stack.blocks):
        groups.setdefault(tuple(_sublayers(block, stack)), []).append(number)
    return [
        Layers(tuple(numbers), sublayers, count_parameters(stack.blocks[numbers[0]]))
        for sublayers, numbers in groups.items()
    ]


def _sublayers(block: nn.Module, stack: Stack) -> Iterator[Sum | Part]:
    for sublayer in block.children() if isinstance(block, Block) else [block]:
        if isinstance(sublayer, Residual):
            # Each kind of sublayer names its norms by where they stand.
            parts = {name: part(child, stack) for name, child in sublayer.named_children()}
            after = ("norm",) if isinstance(sublayer, PostNorm) else ()
            order = {
                PreNorm: ("norm", "mixer"),
                PostNorm: ("mixer",),
                Sandwich: ("pre_norm", "mixer", "post_norm"),
            }.get(type(sublayer), ("mixer", "norm"))
            yield Sum(tuple(parts[name] for name in order), tuple(parts[name] for name in after))
        else:
            yield part(sublayer, stack)


def part(module: nn.Module, stack: Stack | None = None, *, name: str | None = None) -> Part:
    """A box for one module; a brick that is not known here is drawn by its name.

    >>> part(Linear(4, 6, bias=False))
    Part(name='Linear', details=('4 → 6',), num_parameters=24)
    """
    ropes: dict[str, Rope] = {} if stack is None else dict(stack.ropes.items())  # type: ignore[arg-type]
    return Part(name or type(module).__name__, tuple(_details(module, ropes)), count_parameters(module))


def _details(module: nn.Module, ropes: dict[str, Rope]) -> Iterator[str]:
    match module:
        case Linear():
            yield f"{module.in_features:,} → {module.out_features:,}"
        case Embedding():
            yield f"{module.tokens.num_embeddings:,} tokens × {module.tokens.embedding_dim:,}"
            if isinstance(module.positions, LearnedPositions):
                yield f"+ {module.positions.table.num_embeddings - module.positions.offset:,} learned positions"
            elif module.positions is not None:
                yield "+ sinusoidal positions"
            if module.types is not None:
                yield f"+ {module.types.num_embeddings} token types"
            if not isinstance(module.norm, nn.Identity):
                yield f"then {type(module.norm).__name__}"
        case PatchEmbedding():
            patch, image = module.patch_size, module.image_size
            yield f"patches of {patch} × {patch} pixels, of {image} × {image}"
            yield f"{module.num_positions:,} learned positions" + (
                ", a class token" if module.class_token is not None else ""
            )
        case AudioStem():
            yield f"two convolutions: {module.first.in_channels} mels → {module.second.out_channels:,}"
            yield "half the frames"
        case Attention():
            yield from _attention(module, ropes)
        case LatentAttention():
            yield f"{module.num_heads} heads × ({module.content_dim} + {module.rope_dim} rotary)"
            yield f"values × {module.value_dim}"
            yield f"of a token is kept: a latent of {module.kv_rank} + a key of {module.rope_dim}"
            yield from _cache(module)
        case Recurrent():
            yield f"{module.kind}, {module.input.in_features:,} wide"
            yield "keeps a state, however long the text is"
        case GatedMLP():
            yield f"{module.up.in_features:,} → 2 × {module.up.out_features:,} → {module.down.out_features:,}"
            yield f"gate: {_name(module.activation)}"
        case MLP():
            yield f"{module.up.in_features:,} → {module.up.out_features:,} → {module.down.out_features:,}"
            yield f"activation: {_name(module.activation)}"
        case MoE():
            yield f"{len(module.experts)} experts, {module.router.top_k} a token ({type(module.router).__name__})"
            yield f"each {type(module.experts[0]).__name__} {next(_details(module.experts[0], ropes))}"
            if module.shared is not None:
                yield f"and one for all: {next(_details(module.shared, ropes))}"
        case RMSNorm() | OffsetRMSNorm() | LayerNorm():
            yield f"{module.weight.shape[-1]:,}"
        case _:
            yield from (
                f"{type(child).__name__} {' '.join(_details(child, ropes))}".strip()
                for child in module.children()
            )


def _attention(module: Attention, ropes: dict[str, Rope]) -> Iterator[str]:
    num_heads = module.q.out_features // module.head_dim
    num_kv_heads = (
        module.cache_spec.num_kv_heads if isinstance(module.cache_spec, KeyValueSpec) else num_heads
    )
    shared = "" if num_kv_heads == num_heads else f", {num_kv_heads} key/value heads"
    yield f"{num_heads} heads × {module.head_dim}{shared}"
    if isinstance(module, CrossAttention):
        yield "over the encoder's states"
    else:
        sees = "sees what came before" if module.rule.is_causal else "sees everything"
        yield sees if module.rule.window is None else f"sees a window of {module.rule.window:,}"
    if module.rope is not None and module.rope in ropes:
        config = ropes[module.rope].config
        scaling = f", {type(config.scaling).__name__}" if config.scaling else ""
        yield f"rotary, θ = {config.theta:,.0f}{scaling}"
    if not isinstance(module.q_norm, nn.Identity):
        yield "normalised queries and keys"
    if module.score_bias is not None:
        yield f"+ {type(module.score_bias).__name__}"
    if module.rule.soft_cap is not None:
        yield f"scores capped at {module.rule.soft_cap:g}"
    if module.q.bias is not None:
        yield "biases"
    yield from _cache(module)


def _cache(module: CachedLayer) -> Iterator[str]:
    """What stays of a token, or of a window, where anything may be generated from it."""
    spec = module.cache_spec
    if isinstance(spec, KeyValueSpec) and module.rule.is_causal:  # type: ignore[union-attr]
        rolls = "" if spec.window is None else ", rolling"
        yield f"cache: {spec.bytes_per_token(1):,} numbers a token{rolls}"


def _name(activation: object) -> str:
    return getattr(activation, "__name__", type(activation).__name__)
