"""A decoder that sees and hears: encoders of other media in front of one decoder.

    model(tokens, images=pixels)      model(tokens, audio=features)      model(tokens, images=..., audio=...)

Each encoder makes features as wide as the decoder's embeddings; they stand in the place of placeholder tokens
(`splice`). To whoever trains or generates it is a `Decoder`; what is spliced comes in `Context.splice`. Read next:
`models/llava.py`.
"""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.nn.cache import CacheSpec
from malmoi.nn.context import Context
from malmoi.nn.splice import Splice
from malmoi.nn.stack import Decoder, Output, caching_layers


class Multimodal(Decoder):
    """A decoder with `encoders` by the name of the medium ("images", "audio"), one placeholder id each.

    An encoder is a module from a medium's tensors to features (number of features, D), in the order of the prompt.
    Called with `audio=...` and `audio_mask=...`, a model hands both to `encoders["audio"]`. Liu et al. 2023,
    arXiv:2304.08485, section 4.1. The parts of `decoder`, a text model as its family builds it, become this one's.

    Raises ConfigError if `decoder` is more than a decoder of text, or does not have an id.
    """

    def __init__(
        self, decoder: Decoder, *, encoders: Mapping[str, nn.Module], placeholders: Mapping[str, int]
    ) -> None:
        assert encoders.keys() == placeholders.keys(), "every medium has an encoder and a placeholder"
        if type(decoder) is not Decoder:
            raise ConfigError(
                f"{type(decoder).__name__} is more than a decoder of text, and would lose what it is. Use its text "
                "decoder, with encoders for all media."
            )
        for medium, token in placeholders.items():
            if not 0 <= token < decoder.vocab_size:
                raise ConfigError(
                    f"the placeholder of {medium} has the id {token}, outside of the decoder's vocabulary of "
                    f"{decoder.vocab_size}. Use an id that the decoder has."
                )
        super().__init__(
            embedding=decoder.embedding,
            blocks=list(decoder.blocks),
            norm=decoder.norm,
            head=decoder.head,
            vocab_size=decoder.vocab_size,
            max_positions=decoder.max_positions,
        )
        self.ropes = decoder.ropes
        self.encoders = nn.ModuleDict(encoders)
        self.placeholders = dict(placeholders)

    def cache_specs(self) -> list[CacheSpec]:
        """The decoder's: an encoder keeps nothing."""
        return [layer.cache_spec for layer in caching_layers(self.blocks)]

    def encode(self, **media: Tensor) -> dict[str, Float[Tensor, "features D"]]:
        """The features of each medium. Raises RequestError for one that the model has no encoder for."""
        inputs: dict[str, dict[str, Tensor]] = {}
        for name, tensor in media.items():
            medium = name.partition("_")[0]
            if medium not in self.placeholders:
                raise RequestError(
                    f"this model takes no {name}. It takes, beside tokens: {', '.join(self.placeholders)}."
                )
            inputs.setdefault(medium, {})[name] = tensor
        return {medium: self.encoders[medium](**tensors) for medium, tensors in inputs.items()}

    def splice(self, tokens: Int[Tensor, "B T"], **media: Tensor) -> Splice | None:
        """The features of the media in their places among `tokens`; None without any.

        Raises RequestError if a medium has more features than the prompt has places, or fewer.
        """
        splice: Splice | None = None
        for medium, features in self.encode(**media).items():
            placed = Splice.at(tokens, features, placeholder=self.placeholders[medium])
            splice = placed if splice is None else splice | placed
        return splice

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        **media: Tensor,
    ) -> Output:
        """Logits of every position, with `media` in the place of their placeholders; else as a `Decoder`'s.

        Raises RequestError for a medium or an id that the model does not have, and for media that do not fill
        their places.
        """
        if mask is not None:
            assert context is None, "a context says where its tokens stand; a mask is for whole rows"
            return self.without_padding(tokens, mask, **media)
        if context is None:
            context = Context.dense(tokens, specs=self.cache_specs())
        if media:
            context = replace(context, splice=self.splice(tokens, **media))
        return super().forward(tokens, context)
