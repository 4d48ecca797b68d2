"""Stacks of blocks, and the three kinds of models that are made of them.

    Decoder          tokens -> hidden -> logits of the next token, causally         GPT, Llama, ...
    Encoder          tokens -> hidden, every token seeing every other; a head, if any, on top      BERT
    EncoderDecoder   a decoder that also attends to what an encoder made of a source      T5, BART, Whisper

Place in the flow: a family's page assembles one, training calls `hidden` and a chunked loss, the engine `hidden`
and `head` on the rows that it samples from. Read next: `models/llama.py`; `multimodal` for images and sound.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from malmoi.nn.block import Residual
from malmoi.nn.cache import CachedLayer, CacheSpec, LayerCache
from malmoi.nn.context import Context
from malmoi.nn.norm import NARROWING
from malmoi.nn.padding import Padding
from malmoi.nn.rope import Rope
from malmoi.nn.splice import Splice
from malmoi.nn.state import LayerStates


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a language model returns: unnormalised log-probabilities of the next token, after each token.

    `router_logits` are those of each sparse layer, for the tokens end to end: what a load-balancing loss reads.
    """

    logits: Float[Tensor, "B T V"]
    router_logits: tuple[Float[Tensor, "tokens E"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class EncoderOutput:
    """What an encoder returns: a state for each token (zero at padding), and, with a head, what that makes of them.

    Logits of a task, or `pooled`, one vector for the whole of an image.
    """

    hidden: Float[Tensor, "B T D"]
    logits: Float[Tensor, "B *rest"] | None = None
    pooled: Float[Tensor, "B D"] | None = None


class Model(nn.Module):
    """What every model of this house has: a configuration, a precision, a device, and caches that it asks for.

    Attributes:
        config: the family's own configuration; `models.build_model` sets it.
        max_positions: how long a sequence the model was made for. It is for callers to respect, since rotary
            positions have no end.
    """

    config: Any
    max_positions: int
    _compute_dtype: torch.dtype | None = None

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """The precision of the activations where it is not that of the weights; None: that of the weights.

        Set it, and every model inside follows, both sides of an encoder-decoder and the towers in front of a decoder:
        fp32 weights with bf16 activations is mixed-precision training. None is wider than the weights: behind a norm
        activations have the narrower precision of both.
        """
        return self._compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype | None) -> None:
        for module in self.modules():
            if isinstance(module, Model):
                module._compute_dtype = dtype

    def cache_specs(self) -> list[CacheSpec]:
        """What each caching layer asks for, in the order of `Context.caches`."""
        return [layer.cache_spec for layer in caching_layers(self)]

    def new_caches(self) -> list[LayerCache | LayerStates]:
        """Empty caches for rows that go on from step to step."""
        return [spec.new_cache() for spec in self.cache_specs()]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights, of packed ones that of what they compute."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are, and tokens have to be."""
        return next(self.parameters()).device


class Stack(Model):
    """Inputs -> embedding -> blocks -> norm: what decoders, encoders and towers share.

    `ropes` are the rotary embeddings by the name that `Attention(rope=...)` gives. The stack numbers the caches
    of its layers, in the order in which it runs them.
    """

    def __init__(
        self,
        *,
        embedding: nn.Module,
        blocks: Sequence[nn.Module],
        norm: nn.Module | None = None,
        ropes: Mapping[str, Rope] | None = None,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm or nn.Identity()
        self.ropes = nn.ModuleDict(ropes or {})
        self.max_positions = max_positions
        for index, layer in enumerate(caching_layers(self)):
            layer.cache_index = index

    def states(self, inputs: Shaped[Tensor, "B *rest"], context: Context) -> Iterator[Float[Tensor, "B T D"]]:
        """The residual stream before the first block and after each, as far as one goes on asking.

        Of a decoder in bf16 it may be fp32 (`Decoder.embed`).
        Extends the caches of `context` (mutates them).
        """
        x, context = self.embed(inputs, context)
        yield x
        for block in self.blocks:
            x = block(x, context)
            yield x

    def hidden(self, inputs: Shaped[Tensor, "B *rest"], context: Context) -> Float[Tensor, "B T D"]:
        """The normalised states that a head reads. Extends the caches of `context` (mutates them)."""
        return self.transform(*self.embed(inputs, context))

    def embed(
        self, inputs: Shaped[Tensor, "B *rest"], context: Context
    ) -> tuple[Float[Tensor, "B T D"], Context]:
        """The first half of `hidden`: the stream before the first block, and the context with its rotations."""
        context = context.rotated(self.ropes)
        x = self.embedding(inputs, context)
        return x if self.compute_dtype is None else x.to(self.compute_dtype), context

    def transform(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        """The second half: blocks and norm. Extends the caches of `context` (mutates them)."""
        for block in self.blocks:
            x = block(x, context)
        normed: Tensor = self.norm(x)
        return normed


class Decoder(Stack):
    """Tokens -> hidden states -> logits, causally.

    `hidden` and `head` are separate so that training can compute its loss in chunks and the engine only the
    rows it samples from: neither ever builds all T x V logits. `model(tokens)` is the convenience that does.

    >>> from malmoi.models import llama
    >>> model = llama.build(llama.sized(2, vocab_size=256, max_positions=64))
    >>> model(torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3, 256])
    """

    def __init__(
        self,
        *,
        embedding: nn.Module,
        blocks: Sequence[nn.Module],
        head: nn.Module,
        vocab_size: int,
        max_positions: int,
        norm: nn.Module | None = None,
        ropes: Mapping[str, Rope] | None = None,
    ) -> None:
        super().__init__(
            embedding=embedding, blocks=blocks, norm=norm, ropes=ropes, max_positions=max_positions
        )
        self.head = head
        self.vocab_size = vocab_size
        sublayers = [sublayer for block in self.blocks for sublayer in block.children()]
        readers = [
            sublayer.reading_norm if isinstance(sublayer, Residual) else None for sublayer in sublayers
        ]
        self.is_read_by_norms = all(isinstance(reader, NARROWING) for reader in [self.norm, *readers])

    def embed(
        self, inputs: Shaped[Tensor, "B *rest"], context: Context
    ) -> tuple[Float[Tensor, "B T D"], Context]:
        """As any stack's; but of a model in bf16 the stream is in fp32, if only norms of `norm.py` read it.

        Rounded after each sublayer it makes most of the error of such a model's logits (`docs/decisions/0009`). On a
        GPU, and where a gradient is asked for, it is in bf16 too.
        """
        x, context = super().embed(inputs, context)
        is_bf16 = self.compute_dtype is None and x.dtype is torch.bfloat16
        is_wide = is_bf16 and self.is_read_by_norms and not x.is_cuda and not torch.is_grad_enabled()
        return x.float() if is_wide else x, context

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Output:
        """Logits of every position; without a context, of whole rows with nothing cached.

        `mask` is False at padding, left or right; logits there are zero. Raises RequestError for an id or a position
        that the embedding does not have (on the CPU, not compiled).
        """
        if mask is not None:
            assert context is None, "a context says where its tokens stand; a mask is for whole rows"
            return self.without_padding(tokens, Padding(mask))
        if context is None:
            context = Context.dense(tokens, specs=self.cache_specs())
        routed: list[Tensor] = []
        hidden = self.hidden(tokens, replace(context, router_logits=routed))
        if context.router_logits is not None:
            context.router_logits.extend(routed)
        return Output(logits=self.head(hidden), router_logits=tuple(routed))

    def without_padding(
        self, tokens: Int[Tensor, "B T"], padding: Padding, splice: Splice | None = None
    ) -> Output:
        """A forward over the real tokens alone, among them the features of a `splice`; logits at padding are zero."""
        context = Context.packed(padding.lengths, specs=self.cache_specs(), device=tokens.device)
        if splice is not None:
            context = replace(context, splice=splice.packed(padding))
        out: Output = self(padding.pack(tokens), context)
        return replace(out, logits=padding.unpack(out.logits))


class Encoder(Stack):
    """Tokens -> hidden states, every token seeing every other; with a `head`, logits of a task.

    A head is a module `(hidden, mask) -> logits`, where hidden is (B, T, D) and mask (B, T) says which are real.

    >>> from malmoi.nn.embedding import Embedding
    >>> encoder = Encoder(embedding=Embedding(256, 8), blocks=[], max_positions=64)   # states are the embeddings
    >>> encoder(torch.tensor([[5, 6]]), mask=torch.tensor([[True, False]])).hidden[0, 1]
    tensor([0., 0., 0., 0., 0., 0., 0., 0.], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        *,
        embedding: nn.Module,
        blocks: Sequence[nn.Module],
        max_positions: int,
        norm: nn.Module | None = None,
        ropes: Mapping[str, Rope] | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(
            embedding=embedding, blocks=blocks, norm=norm, ropes=ropes, max_positions=max_positions
        )
        self.head = head

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> EncoderOutput:
        """States of every token, zero at padding, which is where `mask` is False. `token_types`: all 0 if None.

        Raises RequestError for an id or a position that the embedding does not have.
        """
        if mask is None:
            context = Context.dense(tokens, specs=self.cache_specs())
            hidden = self.hidden(tokens, replace(context, token_types=token_types))
            mask = torch.ones_like(tokens, dtype=torch.bool)
        else:
            padding = Padding(mask)
            context = Context.packed(padding.lengths, specs=self.cache_specs(), device=tokens.device)
            types = None if token_types is None else padding.pack(token_types)
            hidden = padding.unpack(self.hidden(padding.pack(tokens), replace(context, token_types=types)))
        return EncoderOutput(hidden=hidden, logits=None if self.head is None else self.head(hidden, mask))


class EncoderDecoder(Model):
    """An encoder reads a source, a decoder writes (Sutskever et al. 2014, arXiv:1409.3215), attending to it.

    Attending to all states of the source instead of one vector for it is Bahdanau et al. 2014 (arXiv:1409.0473, section
    3.1). For whoever generates it is a decoder with `encode`: `hidden(tokens, context)` wants the states that `encode`
    made of the source in `Context.source`, in the first step of a sequence.

    >>> from malmoi.models.transformer import TransformerConfig, build
    >>> shape = {"hidden_size": 8, "intermediate_size": 16, "num_layers": 1, "num_heads": 2}
    >>> model = build(TransformerConfig(vocab_size=256, **shape))
    >>> model(torch.tensor([[5, 6, 7]]), decoder_tokens=torch.tensor([[1, 2]])).logits.shape
    torch.Size([1, 2, 256])

    Attributes:
        has_token_source: `encode` takes token ids, which is all that the engine can give it; not sound (`audio`).
    """

    has_token_source: ClassVar[bool] = True

    def __init__(self, *, encoder: Stack, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.max_positions, self.vocab_size = decoder.max_positions, decoder.vocab_size

    def encode(
        self, inputs: Shaped[Tensor, "B *rest"], context: Context | None = None
    ) -> Float[Tensor, "B S D"]:
        """The encoder's states; without a context, of whole rows."""
        if context is None:
            context = Context.dense(inputs, specs=self.encoder.cache_specs())
        return self.encoder.hidden(inputs, context)

    def hidden(self, tokens: Int[Tensor, "B T"], context: Context) -> Float[Tensor, "B T D"]:
        """The decoder's normalised states. Extends the caches of `context` (mutates them)."""
        return self.decoder.hidden(tokens, context)

    @property
    def head(self) -> nn.Module:
        """The decoder's states -> logits."""
        return self.decoder.head

    def cache_specs(self) -> list[CacheSpec]:
        """The decoder's: an encoder keeps nothing."""
        return self.decoder.cache_specs()

    def forward(
        self,
        tokens: Int[Tensor, "B S"],
        *,
        decoder_tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B S"] | None = None,
    ) -> Output:
        """Logits after each of `decoder_tokens`, given the source `tokens`; `mask` is False at the source's padding.

        Raises RequestError for an id or a position that an embedding does not have.
        """
        specs, device = self.cache_specs(), tokens.device
        if mask is None:
            context = Context.dense(decoder_tokens, specs=specs, source=self.encode(tokens))
            dense: Output = self.decoder(decoder_tokens, context)
            return dense
        padding = Padding(mask)
        places = Context.packed(padding.lengths, specs=self.encoder.cache_specs(), device=device)
        num_rows, length = decoder_tokens.shape
        context = Context.packed(
            [length] * num_rows,
            specs=specs,
            device=device,
            source=self.encode(padding.pack(tokens), places),
            source_lengths=padding.lengths,
        )
        out: Output = self.decoder(decoder_tokens.reshape(1, -1), context)
        return replace(out, logits=out.logits.view(num_rows, length, -1))


def caching_layers(model: nn.Module) -> list[CachedLayer]:
    """The layers that keep something of their tokens, in the order in which they run."""
    return [module for module in model.modules() if isinstance(module, CachedLayer)]
