from typing import Any

from transformers import LlamaConfig as Theirs

from malmoi.models.llama import LlamaConfig
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import Llama3Scaling

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 64,
}
OURS = {
    "llama": LlamaConfig(**SMALL, num_kv_heads=4, head_dim=6),
    "llama, all options": LlamaConfig(
        **SMALL,
        num_kv_heads=2,
        head_dim=10,
        norm_eps=1e-4,
        rope=RopeConfig(
            theta=500.0,
            scaling=Llama3Scaling(
                factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=16
            ),
        ),
        is_tied=True,
        has_attention_bias=True,
        has_mlp_bias=True,
    ),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    rest = {
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Theirs(**(small | rest | changes))


THEIRS = {
    "llama": theirs(),
    "grouped queries": theirs(num_key_value_heads=2),
    "multi-query": theirs(num_key_value_heads=1),
    "wide heads": theirs(head_dim=10),
    "tied": theirs(tie_word_embeddings=True),
    "attention biases": theirs(attention_bias=True, num_key_value_heads=2),
    "mlp biases": theirs(mlp_bias=True),
    "another theta and epsilon": theirs(
        rope_parameters={"rope_type": "default", "rope_theta": 77.0}, rms_norm_eps=0.1
    ),
    "values without effect": theirs(attention_dropout=0.5, pretraining_tp=2, initializer_range=0.5),
}

# A softmax does not see what all keys of a query have in common, and that is all that a bias of k adds.
WITHOUT_GRADIENT = {"*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"}
