from typing import Any

from transformers import Exaone4Config as Theirs

from malmoi.models.exaone4 import Exaone4Config
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import Llama3Scaling

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_positions": 64,
}
OURS = {
    "exaone4": Exaone4Config(**SMALL, head_dim=6, window=4, layer_pattern="LG"),
    "exaone4, all options": Exaone4Config(
        **SMALL,
        head_dim=10,
        layer_pattern="GG",
        norm_eps=1e-4,
        rope=RopeConfig(
            theta=500.0,
            scaling=Llama3Scaling(
                factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=16
            ),
        ),
        is_tied=True,
    ),
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


LOCAL, GLOBAL = "sliding_attention", "full_attention"
THEIRS = {
    "exaone4": theirs(sliding_window=5, sliding_window_pattern=2),
    "local throughout": theirs(sliding_window=5),
    "global throughout": theirs(sliding_window=None, layer_types=[GLOBAL, GLOBAL]),
    "global throughout, with a window": theirs(sliding_window=5, layer_types=[GLOBAL, GLOBAL]),
    "the global layer first": theirs(sliding_window=5, layer_types=[GLOBAL, LOCAL]),
    "wide heads": theirs(sliding_window=5, sliding_window_pattern=2, head_dim=10),
    "tied": theirs(sliding_window=5, sliding_window_pattern=2, tie_word_embeddings=True),
    "another theta and epsilon": theirs(
        sliding_window=5,
        sliding_window_pattern=2,
        rope_parameters={"rope_type": "default", "rope_theta": 77.0},
        rms_norm_eps=0.1,
    ),
}
