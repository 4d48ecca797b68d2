"""Sounds as sequences: a log-mel spectrogram -> states, and the two ways in which a decoder is shown them.

    AudioEncoder    spectrograms (B, mels, frames) -> a state for every two frames (B, T, D)
    AudioToText     attends to the states: Whisper, an encoder-decoder
    SoundEncoder    states, pairs averaged -> projector -> features that stand in a prompt: Qwen2-Audio

Place in the flow: `malmoi.media` makes the spectrograms, `models/audio_tower.py` builds an encoder. Read next:
`models/whisper.py`; `multimodal` and `models/audio.py`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.nn.context import Context
from malmoi.nn.padding import Padding
from malmoi.nn.stack import Decoder, EncoderDecoder, Output, Stack

FRAMES_PER_STATE = 2
"""Frames of a spectrogram (10 ms each in Whisper) that become one state: the stride of the stem."""


class AudioEncoder(Stack):
    """Whisper's encoder (Radford et al. 2022, arXiv:2212.04356, section 2.2): a stem of two convolutions, then blocks.

    It hears `max_positions` states' worth of sound at a time, 30 seconds in Whisper, no more and no less: a shorter
    sound is filled up with silence before (`media.SoundProcessor`). A `mask` keeps the states of that silence out of
    the blocks; the stem hears it all the same, as it stands beside the last frames of the sound.

    >>> encoder = AudioEncoder(num_mels=80, hidden_size=8, max_positions=1500, blocks=[])
    >>> encoder(torch.zeros(1, 80, 3000)).shape
    torch.Size([1, 1500, 8])
    """

    def __init__(
        self,
        *,
        num_mels: int,
        hidden_size: int,
        max_positions: int,
        blocks: Sequence[nn.Module],
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(
            embedding=StoredSinusoids(max_positions, hidden_size),
            blocks=blocks,
            norm=norm,
            max_positions=max_positions,
        )
        self.stem = AudioStem(num_mels, hidden_size)

    def forward(
        self, audio: Float[Tensor, "B mels frames"], *, mask: Bool[Tensor, "B frames"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """The states of spectrograms, zero where `mask` is False, which it is behind the sound.

        Raises RequestError for spectrograms of another shape than the model hears, for a sound without a frame, and
        for one that begins or goes on after silence.
        """
        heard = (self.stem.first.in_channels, FRAMES_PER_STATE * self.max_positions)
        if audio.shape[1:] != heard:
            raise RequestError(
                f"the spectrogram has {audio.shape[1]} mel bands and {audio.shape[2]} frames, but this model hears "
                f"{heard[0]} and {heard[1]}. Make it with the model's SoundProcessor, which fills it up or cuts it."
            )
        x = self.stem(audio)
        specs = self.cache_specs()
        if mask is None:
            return self.hidden(x, Context.rows(*x.shape[:2], specs=specs, device=x.device))
        if (mask[:, 1:] > mask[:, :-1]).any():
            raise RequestError(
                "a sound is masked before its end. Mask what comes after the sound, and only that."
            )
        padding = Padding(mask[:, ::FRAMES_PER_STATE])
        context = Context.packed(padding.lengths, specs=specs, device=x.device)
        return padding.unpack(self.hidden(padding.pack(x), context))


class AudioStem(nn.Module):
    """Two convolutions over time, three frames wide, each with GELU; the second takes every other frame.

    >>> AudioStem(80, 8)(torch.zeros(1, 80, 100)).shape
    torch.Size([1, 50, 8])
    """

    def __init__(self, num_mels: int, hidden_size: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(num_mels, hidden_size, kernel_size=3, padding=1)
        self.second = nn.Conv1d(hidden_size, hidden_size, kernel_size=3, padding=1, stride=FRAMES_PER_STATE)

    def forward(self, audio: Float[Tensor, "B mels frames"]) -> Float[Tensor, "B T D"]:
        x = audio.to(self.first.weight.dtype)  # spectrograms come in fp32 whatever the precision of the model
        return F.gelu(self.second(F.gelu(self.first(x)))).mT


class StoredSinusoids(nn.Module):
    """Adds sines and cosines of the position, which nothing trains and every checkpoint of Whisper stores.

    Not those of 2017 (`embedding.SinusoidalPositions`): all sines come before all cosines, and the wavelengths reach
    10,000 x 2 pi itself. They are a parameter so that what a checkpoint says is kept bit for bit. Raises ConfigError
    for an odd width, which has no pairs.

    >>> StoredSinusoids(2, 4).table[1]
    tensor([8.4147e-01, 1.0000e-04, 5.4030e-01, 1.0000e+00])
    """

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__()
        if hidden_size % 2:
            raise ConfigError(f"hidden_size={hidden_size} is odd, and sines come in pairs. Use an even one.")
        self.table = nn.Parameter(torch.empty(num_positions, hidden_size), requires_grad=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The sinusoids."""
        num_positions, hidden_size = self.table.shape
        half = hidden_size // 2
        frequencies = 10_000 ** -(torch.arange(half) / max(1, half - 1))
        angles = torch.arange(num_positions)[:, None] * frequencies
        self.table.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return x + self.table[context.positions]


class AudioToText(EncoderDecoder):
    """An encoder-decoder whose source is a sound: `model(tokens, audio=spectrograms)`.

    To whoever generates it is an `EncoderDecoder` whose `encode` takes spectrograms.
    """

    has_token_source = False
    encoder: AudioEncoder

    def __init__(self, *, encoder: AudioEncoder, decoder: Decoder) -> None:
        super().__init__(encoder=encoder, decoder=decoder)

    def encode(
        self, inputs: Float[Tensor, "B mels frames"], context: Context | None = None
    ) -> Float[Tensor, "B S D"]:
        """The encoder's states of spectrograms. Raises RequestError for another shape than it hears."""
        assert context is None, "sounds are rows of one length: there is nothing that a context could say"
        states: Tensor = self.encoder(inputs)
        return states

    def forward(  # type: ignore[override]  # tokens are what is written here, since a sound is no row of tokens
        self, tokens: Int[Tensor, "B T"], *, audio: Float[Tensor, "B mels frames"]
    ) -> Output:
        """Logits after each of `tokens`, which the decoder writes, given a sound for each row.

        Raises RequestError for an id or a position that the decoder does not have, and as `encode` does.
        """
        context = Context.dense(tokens, specs=self.cache_specs(), source=self.encode(audio))
        out: Output = self.decoder(tokens, context)
        return out


class SoundEncoder(nn.Module):
    """Sounds -> the features of each for a decoder: pairs of a tower's states averaged, normalised and projected.

    Qwen2-Audio (Chu et al. 2024, arXiv:2407.10759, section 2), whose features are of 40 ms each.
    """

    def __init__(self, *, tower: AudioEncoder, norm: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.tower, self.norm, self.projector = tower, norm, projector

    def forward(
        self, audio: Float[Tensor, "B mels frames"], *, audio_mask: Bool[Tensor, "B frames"] | None = None
    ) -> list[Float[Tensor, "_ D"]]:
        """The features of each sound, `num_sound_features` of its frames. Raises as the tower."""
        pairs = F.avg_pool1d(self.tower(audio, mask=audio_mask).mT, 2).mT
        if audio_mask is None:
            return list(self.projector(self.norm(pairs)))
        # Of a pair's four frames the third is the first that its second state is made for.
        is_kept = audio_mask[:, 2::4]
        features: Tensor = self.projector(self.norm(pairs[is_kept]))
        return list(torch.split(features, is_kept.sum(dim=1).tolist()))


def num_sound_features(num_frames: int) -> int:
    """How many features `SoundEncoder` makes of a sound of `num_frames`, and so how many placeholders it takes.

    >>> num_sound_features(3000), num_sound_features(100), num_sound_features(3), num_sound_features(2)
    (750, 25, 1, 0)
    """
    return (num_frames + 1) // 4
