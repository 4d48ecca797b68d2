from typing import Any

from transformers import GPT2Config as Theirs

from malmoi.models.gpt2 import GPT2Config

SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2}
OURS = {
    "gpt2": GPT2Config(**SMALL, num_heads=4, max_positions=64),
    "gpt2, all options": GPT2Config(
        **SMALL,
        num_heads=3,
        max_positions=32,
        norm_eps=1e-4,
        is_tied=False,
        is_scaled=False,
        scales_by_layer=True,
    ),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 32}
    return Theirs(**(small | {"bos_token_id": None, "eos_token_id": None} | changes))


THEIRS = {
    "gpt2": theirs(),
    "untied": theirs(tie_word_embeddings=False),
    "scaled by layer": theirs(scale_attn_by_inverse_layer_idx=True),
    "not scaled": theirs(scale_attn_weights=False),
    "another width and epsilon": theirs(n_inner=36, layer_norm_epsilon=0.1),
    "the other name of its activation": theirs(activation_function="gelu_pytorch_tanh"),
    "values without effect": theirs(attn_pdrop=0.5, reorder_and_upcast_attn=True, summary_type="mean"),
}

WITHOUT_GRADIENT = {"*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"}
COPIED = {
    f"blocks.*.{name}.weight": "stored transposed"
    for name in ("attention.mixer.[qkv]", "attention.mixer.out", "ffn.mixer.up", "ffn.mixer.down")
}
