from typing import Any

from transformers import BartConfig as Theirs

from malmoi.models.bart import BartConfig

OURS = {
    "bart": BartConfig(
        vocab_size=61, hidden_size=24, num_layers=2, num_heads=4, intermediate_size=40,
        num_decoder_layers=2, num_decoder_heads=4, decoder_intermediate_size=40, max_positions=64,
    ),
    "bart, all options": BartConfig(
        vocab_size=61, hidden_size=24, num_layers=1, num_heads=3, intermediate_size=32,
        num_decoder_layers=2, num_decoder_heads=6, decoder_intermediate_size=40, max_positions=32, is_scaled=True,
    ),
}  # fmt: skip


def theirs(**changes: Any) -> Theirs:
    sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 40}
    small = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()}
    small |= {"vocab_size": 61, "d_model": 24, "max_position_embeddings": 32}
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "forced_eos_token_id"))
    architecture = ["BartForConditionalGeneration"]
    return Theirs(**(small | ids | {"architectures": architecture, "decoder_start_token_id": 2} | changes))


THEIRS = {
    "bart": theirs(),
    "scaled embeddings": theirs(scale_embedding=True),
    "sides of two sizes": theirs(
        encoder_layers=1,
        decoder_layers=3,
        encoder_attention_heads=3,
        decoder_attention_heads=6,
        decoder_ffn_dim=32,
    ),
    "values without effect": theirs(dropout=0.5, encoder_layerdrop=0.5, init_std=0.5, classifier_dropout=0.5),
}
WITHOUT_GRADIENT = {
    "*.mixer.k.bias": "the softmax does not see what all keys have in common",
    "decoder.head.bias": "stored with the weights, and never trained",
}
