from typing import Any

from transformers import Phi3Config as Theirs

from malmoi.models.phi3 import Phi3Config
from malmoi.nn.rope import RopeConfig

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "head_dim": 6,
    "max_positions": 64,
}
OURS = {
    "phi3": Phi3Config(**SMALL, num_kv_heads=4, window=4),
    "phi3, all options": Phi3Config(
        **SMALL,
        num_kv_heads=2,
        norm_eps=1e-4,
        rope=RopeConfig(theta=500.0),
        is_tied=True,
    ),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    rest = {
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return Theirs(**(small | rest | changes))


THEIRS = {
    "phi3": theirs(),
    "grouped queries": theirs(num_key_value_heads=2),
    "a window": theirs(sliding_window=5),
    "tied": theirs(tie_word_embeddings=True),
    "another theta and epsilon": theirs(
        rope_parameters={"rope_type": "default", "rope_theta": 77.0}, rms_norm_eps=0.1
    ),
    # Within the first context. Beyond it the reference turns a whole batch by its longest row, and a sequence here by
    # itself: `tests/nn/test_rope.py`.
    "long positions": theirs(
        original_max_position_embeddings=32,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 500.0,
            "short_factor": [1.0, 1.5, 2.0],
            "long_factor": [1.0, 4.0, 8.0],
        },
    ),
}
