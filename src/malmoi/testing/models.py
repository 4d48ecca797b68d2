"""Models for tests: tiny ones with random weights, and one that says what it was told to.

Read next: `testing/tokenizer.py`, whose 259 tokens are their vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from malmoi.llm import LLM
from malmoi.models import build_model, initialise, require_kind
from malmoi.models.clip import ClipConfig
from malmoi.models.gpt2 import GPT2Config
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.recurrent import RecurrentConfig
from malmoi.models.t5 import T5Config
from malmoi.nn.context import Context
from malmoi.nn.linear import Linear
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate

VOCAB_SIZE = 259  # ByteTokenizer's
IMAGE_TOKEN = 3  # with one special token more


def tiny_llama(*, seed: int = 0, **changes: Any) -> Decoder:
    """A Llama of 2 layers and 32 dimensions, 4 heads over 2 key heads. `changes` are fields of its config.

    Its weights are large, so that its next-token distributions are as peaked as a trained model's.

    >>> tiny_llama()(torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3, 259])
    """
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=8, max_positions=128,
    )  # fmt: skip
    return _initialised(replace(config, **changes), seed)


def tiny_gpt2(*, seed: int = 0, **changes: Any) -> Decoder:
    """A GPT-2 of 2 layers and 32 dimensions. `changes` are fields of its config."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        max_positions=128,
    )
    return _initialised(replace(config, **changes), seed)


def tiny_lstm(*, seed: int = 0, **changes: Any) -> Decoder:
    """An LSTM of 2 layers and 32 dimensions. `changes` are fields of its config."""
    config = RecurrentConfig(
        cell="lstm", vocab_size=VOCAB_SIZE, hidden_size=32, num_layers=2, max_positions=128
    )
    return _initialised(replace(config, **changes), seed, std=0.6)


def _initialised(config: Any, seed: int, *, std: float = 0.3) -> Decoder:
    model = require_kind(build_model(config), Decoder, for_what="a test")
    return initialise(model, seed=seed, std=std).eval()


def tiny_t5(*, seed: int = 0, **changes: Any) -> EncoderDecoder:
    """A T5 of 2 and 2 layers and 32 dimensions. `changes` are fields of its config."""
    config = T5Config(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=64, num_layers=2, num_decoder_layers=2, num_heads=4,
        head_dim=8, num_buckets=8, max_distance=16, max_positions=128, scales_logits=False,
    )  # fmt: skip
    model = require_kind(build_model(replace(config, **changes)), EncoderDecoder, for_what="a source")
    return initialise(model, seed=seed, std=0.3).eval()


def tiny_llava(*, seed: int = 0, **changes: Any) -> Multimodal:
    """A LLaVA of 32 dimensions that sees images of 8 x 8 pixels as 4 patches. `changes` are fields of its config.

    Its vocabulary is that of `ByteTokenizer([*SPECIAL_TOKENS, "<image>"])`, whose placeholder is `IMAGE_TOKEN`.
    """
    vision = ClipConfig(
        hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, image_size=8, patch_size=4
    )
    text = LlamaConfig(
        vocab_size=VOCAB_SIZE + 1, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=8, max_positions=128,
    )  # fmt: skip
    config = replace(LlavaConfig(vision=vision, text=text, image_token=IMAGE_TOKEN), **changes)
    model = require_kind(build_model(config), Multimodal, for_what="a test")
    return initialise(model, seed=seed, std=0.3).eval()


class ScriptedModel(Decoder):
    """Says `script` after a prompt of `num_prompt` tokens, whatever the prompt is; then the last id for ever.

    >>> model = ScriptedModel([7, 8], num_prompt=3)
    >>> model(torch.tensor([[1, 1, 1]])).logits[0, -1].argmax().item()
    7
    """

    def __init__(self, script: Sequence[int], *, num_prompt: int, vocab_size: int = VOCAB_SIZE) -> None:
        length = num_prompt - 1 + len(script)
        head = Linear(length, vocab_size, bias=False)
        super().__init__(
            embedding=nn.Identity(),
            blocks=[],
            norm=nn.Identity(),
            head=head,
            vocab_size=vocab_size,
            max_positions=max(2 * length, 64),
        )
        self.length = length
        with torch.no_grad():
            head.weight.zero_()
            for index, token in enumerate(script):
                head.weight[token, num_prompt - 1 + index] = 30.0

    def embed(
        self, inputs: Shaped[Tensor, "B T"], context: Context
    ) -> tuple[Float[Tensor, "B T D"], Context]:
        """One-hot: where the token stands."""
        place = context.positions.clamp_max(self.length - 1)
        return nn.functional.one_hot(place, self.length).float(), context


def tiny_llm(model: Decoder | EncoderDecoder | None = None) -> LLM:
    """An LLM of a tiny model (by default `tiny_llama()`) with `ByteTokenizer` and our chat format."""
    tokenizer = ByteTokenizer()
    end = [tokenizer.special_tokens["<|endoftext|>"]]
    return LLM(
        tiny_llama() if model is None else model,
        tokenizer,
        template=ChatTemplate.default(),
        stop_ids=end,
        answer_opening=end if isinstance(model, EncoderDecoder) else (),
    )
