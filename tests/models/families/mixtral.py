from typing import Any

from transformers import MixtralConfig as Theirs

from malmoi.models.mixtral import MixtralConfig

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 6,
    "max_positions": 64,
}
OURS = {
    "mixtral": MixtralConfig(**SMALL, num_experts=3),
    "mixtral, a window": MixtralConfig(**SMALL, num_experts=4, top_k=3, window=4, is_tied=True),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
    rest = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Theirs(**(small | rest | changes))


THEIRS = {
    "mixtral": theirs(),
    "one expert a token": theirs(num_experts_per_tok=1),
    "every expert": theirs(num_experts_per_tok=4),
    "a window": theirs(sliding_window=5),
    "values without effect": theirs(router_jitter_noise=0.1, router_aux_loss_coef=1.0),
}
