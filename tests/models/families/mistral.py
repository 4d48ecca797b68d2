from typing import Any

from transformers import MistralConfig as Theirs

from malmoi.models.mistral import MistralConfig

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 6,
    "max_positions": 64,
}
OURS = {
    "mistral": MistralConfig(**SMALL),
    "mistral, a window": MistralConfig(**SMALL, window=4, is_tied=True),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    rest = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Theirs(**(small | rest | changes))


THEIRS = {
    "a window": theirs(sliding_window=5),
    "no window": theirs(sliding_window=None),
    "the default window": theirs(),
}
