"""A stack of blocks between an embedding and a head: the decoder that language models share.

Place in the flow: a family's page assembles one, training calls `hidden` and a chunked loss, the engine `hidden`
and `head` on the rows that it samples from. Read next: `models/llama.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.nn.attention import Attention
from malmoi.nn.block import Block
from malmoi.nn.cache import CacheSpec
from malmoi.nn.context import Context
from malmoi.nn.linear import Linear
from malmoi.nn.rope import Rope


@dataclass(frozen=True, kw_only=True)
class Output:
    """What `model(tokens)` returns: unnormalised log-probabilities of the next token, after each token."""

    logits: Float[Tensor, "B T V"]


class Decoder(nn.Module):
    """Tokens -> hidden states -> logits, causally.

    `hidden` and `head` are separate so that training can compute its loss in chunks and the engine only the
    rows it samples from: neither ever builds all T x V logits. `model(tokens)` is the convenience that does.

    `ropes` are the rotary embeddings by the name that `Attention(rope=...)` gives. `compute_dtype`, an attribute
    to set, is the precision of the activations where it is not that of the weights: fp32 weights with bf16
    activations is mixed-precision training. `max_positions` is how long a sequence the model was made for; it
    is for callers to respect, since rotary positions have no end.
    """

    config: Any  # the family's own configuration; `models.build_model` sets it

    def __init__(
        self,
        *,
        embedding: nn.Module,
        blocks: list[Block],
        norm: nn.Module,
        head: Linear,
        max_positions: int,
        ropes: Mapping[str, Rope] | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head
        self.ropes = nn.ModuleDict(ropes or {})
        self.max_positions = max_positions
        self.compute_dtype: torch.dtype | None = None  # None: the precision of the weights

    def hidden(self, tokens: Int[Tensor, "B T"], context: Context) -> Float[Tensor, "B T D"]:
        """The normalised states that the head reads. Extends the caches of `context` (mutates them)."""
        context = context.rotated(self.ropes)
        x = self.embedding(tokens, context)
        if self.compute_dtype is not None:
            x = x.to(self.compute_dtype)
        for block in self.blocks:
            x = block(x, context)
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, tokens: Int[Tensor, "B T"], context: Context | None = None) -> Output:
        """Logits of every position; without a context, of whole rows with nothing cached.

        Raises RequestError for an id or a position that the embedding does not have (on the CPU, not compiled).
        """
        if context is None:
            context = Context.dense(tokens, num_layers=len(self.blocks))
        return Output(logits=self.head(self.hidden(tokens, context)))

    def cache_specs(self) -> list[CacheSpec]:
        """What each layer asks the engine to keep of a token, in the order of `Context.caches`."""
        return [module.cache_spec for module in self.modules() if isinstance(module, Attention)]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return self.head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are, and tokens have to be."""
        return self.head.weight.device
