"""The Transformer of 2017 against PyTorch's own layers, with the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from malmoi.models import build_model, count_parameters
from malmoi.models.transformer import TransformerConfig, transformer_base, transformer_big
from malmoi.nn.stack import EncoderDecoder

VOCAB_SIZE, WIDTH, HEADS, LAYERS = 61, 24, 4, 2


def pytorchs(ours: EncoderDecoder) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """PyTorch's layers with our weights; the two stacks without the last norms that nn.Transformer adds."""
    shape: dict[str, Any] = {"d_model": WIDTH, "nhead": HEADS, "dim_feedforward": 40, "dropout": 0.0}
    shape |= {"batch_first": True, "norm_first": False}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**shape), LAYERS, enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), LAYERS)
    mixers = {"self_attn": "attention", "multihead_attn": "cross"}
    for stack, theirs in ((ours.encoder, encoder), (ours.decoder, decoder)):
        for block, layer in zip(stack.blocks, theirs.layers, strict=True):
            for theirs_name, name in mixers.items():
                if hasattr(layer, theirs_name):
                    mixer, attention = getattr(block, name).mixer, getattr(layer, theirs_name)
                    attention.in_proj_weight.data = torch.cat(
                        [mixer.q.weight, mixer.k.weight, mixer.v.weight]
                    )
                    attention.out_proj.weight.data = mixer.out.weight
                    attention.in_proj_bias.data.zero_()  # the paper's projections have none
                    attention.out_proj.bias.data.zero_()
            layer.linear1.load_state_dict(block.ffn.mixer.up.state_dict())
            layer.linear2.load_state_dict(block.ffn.mixer.down.state_dict())
            for number, sublayer in enumerate(block.children(), start=1):
                getattr(layer, f"norm{number}").load_state_dict(sublayer.norm.state_dict())
    return encoder.eval(), decoder.eval()


def positions_by_the_formula(length: int) -> Tensor:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i / D)), PE(pos, 2i + 1) = cos of the same."""
    table = torch.empty(length, WIDTH, dtype=torch.float64)
    for position in range(length):
        for pair in range(WIDTH // 2):
            angle = torch.tensor(position / 10_000 ** (2 * pair / WIDTH), dtype=torch.float64)
            table[position, 2 * pair], table[position, 2 * pair + 1] = angle.sin(), angle.cos()
    return table.float()


@torch.no_grad()
def test_we_compute_what_pytorch_computes_with_the_same_weights(
    randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    config = TransformerConfig(
        vocab_size=VOCAB_SIZE, hidden_size=WIDTH, intermediate_size=40, num_layers=LAYERS, num_heads=HEADS
    )
    ours: EncoderDecoder = randomise(build_model(config)).eval()
    encoder, decoder = pytorchs(ours)
    table = ours.encoder.embedding.tokens.weight
    source, target = torch.randint(VOCAB_SIZE, (2, 9)), torch.randint(VOCAB_SIZE, (2, 6))
    states = encoder(table[source] * WIDTH**0.5 + positions_by_the_formula(9))
    later = nn.Transformer.generate_square_subsequent_mask(6)
    hidden = decoder(table[target] * WIDTH**0.5 + positions_by_the_formula(6), states, tgt_mask=later)
    assert_close(ours.encode(source), states)
    assert_close(ours(source, decoder_tokens=target).logits, hidden @ table.T)


@pytest.mark.parametrize(("preset", "millions"), [(transformer_base, 65), (transformer_big, 213)])
def test_presets_are_as_large_as_table_3_says_within_what_it_leaves_open(
    preset: Callable[[], TransformerConfig], millions: int
) -> None:
    """The vocabulary is "about 37000 tokens", and the table does not say what it counts."""
    with torch.device("meta"):
        count = count_parameters(build_model(preset()))
    assert abs(count / 1e6 - millions) / millions < 0.035
