"""A decoder that sees and hears: encoders of other media in front of one decoder.

    model(tokens, images=pixels)      model(tokens, audio=features)      model(tokens, images=..., audio=...)

Each encoder makes features as wide as the decoder's embeddings; they stand in the place of placeholder tokens
(`splice`). To whoever trains or generates it is a `Decoder`; what is spliced comes in `Context.splice`. Read next:
`models/llava.py`.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.nn.cache import CacheSpec
from malmoi.nn.context import Context
from malmoi.nn.padding import Padding
from malmoi.nn.splice import Splice
from malmoi.nn.stack import Decoder, Output, caching_layers


class Multimodal(Decoder):
    """A decoder with `encoders` by the name of the medium ("images", "audio"), one placeholder id each.

    An encoder is a module from a medium's tensors to the features (number of features, D) of each image or sound, in
    the order of the prompt. Called with `audio=...` and `audio_mask=...`, a model hands both to `encoders["audio"]`.
    Liu et al. 2023, arXiv:2304.08485, section 4.1. The parts of `decoder`, a text model as its family builds it, become
    this one's.

    Raises ConfigError if `decoder` is more than a decoder of text, or does not have an id.

    >>> from malmoi.models import llama
    >>> class Colour(nn.Module):                       # of an image of three numbers, two features
    ...     def forward(self, images):
    ...         return list(images[:, None].expand(-1, 2, -1).repeat(1, 1, 32)[..., :64])
    >>> decoder = llama.build(llama.sized(2, vocab_size=256, max_positions=64))
    >>> model = Multimodal(decoder, encoders={"images": Colour()}, placeholders={"images": 255})
    >>> model(torch.tensor([[7, 255, 255, 8]]), images=torch.rand(1, 3)).logits.shape
    torch.Size([1, 4, 256])
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
        """The features of each medium, end to end. Raises RequestError for one that the model has no encoder for."""
        return {medium: torch.cat(items) for medium, items in self._encode_each(media).items()}

    def _encode_each(self, media: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
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

        Raises RequestError if a medium has more features than the prompt has places, or fewer, or an image or a sound
        does not lie within one row.
        """
        splice, items = None, self._encode_each(media)
        for medium, placeholder in self.placeholders.items():
            if medium in items:
                placed = Splice.at(tokens, items[medium], placeholder=placeholder)
                splice = placed if splice is None else splice | placed
            elif (tokens == placeholder).any():
                raise RequestError(
                    f"the prompt has places for {medium} (id {placeholder}), but none were given. Call the model with "
                    f"{medium}=..., or render the prompt without them."
                )
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

        A context says what is spliced, as whoever makes one knows. Raises RequestError for a medium or an id that the
        model does not have, and for media that do not fill their places.
        """
        if context is not None:
            assert not media, (
                "a context has what is spliced already: Context(splice=model.splice(tokens, ...))"
            )
            return super().forward(tokens, context, mask=mask)
        if mask is not None:
            words = tokens.masked_fill(~mask, -1)  # padding may be of any id, a placeholder's too
            return self.without_padding(tokens, Padding(mask), self.splice(words, **media))
        context = Context.dense(tokens, specs=self.cache_specs())
        return super().forward(tokens, replace(context, splice=self.splice(tokens, **media)))
