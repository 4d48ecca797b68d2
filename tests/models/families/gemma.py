from typing import Any

from transformers import Gemma2Config as Theirs2
from transformers import Gemma3TextConfig as Theirs3
from transformers import GemmaConfig as Theirs1

from malmoi.models.gemma import GemmaConfig
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.gemma3 import Gemma3Config
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import LinearScaling

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
    "gemma": GemmaConfig(**SMALL, is_tied=True),
    "gemma2": Gemma2Config(**SMALL, is_tied=True, window=4, layer_pattern="LG"),
    "gemma2, other options": Gemma2Config(
        **SMALL, window=3, layer_pattern="GL", query_scalar=9, score_cap=None, logit_cap=None
    ),
    "gemma3_text": Gemma3Config(**SMALL, is_tied=True, window=4, layer_pattern="LG"),
    "gemma3_text, all options": Gemma3Config(
        **SMALL,
        window=3,
        layer_pattern="GL",
        query_scalar=9,
        norm_eps=1e-4,
        rope=RopeConfig(theta=700.0, scaling=LinearScaling(factor=8.0)),
        local_rope=RopeConfig(theta=70.0, scaling=LinearScaling(factor=2.0)),
    ),
}


def theirs(kind: Any, **changes: Any) -> Any:
    small = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
    rest = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "max_position_embeddings": 32,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        # its fused kernels leave the caps out
        "attn_implementation": "eager",
    }
    return kind(**(small | rest | changes))


ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 700.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
}
THEIRS = {
    "gemma": theirs(Theirs1),
    "gemma, untied": theirs(Theirs1, tie_word_embeddings=False, rms_norm_eps=0.1),
    "gemma2": theirs(Theirs2, sliding_window=5),
    "gemma2, low caps": theirs(
        Theirs2, sliding_window=4, attn_logit_softcapping=0.5, final_logit_softcapping=0.7
    ),
    "gemma2, no caps, another scale": theirs(
        Theirs2, attn_logit_softcapping=None, final_logit_softcapping=None, query_pre_attn_scalar=3
    ),
    "gemma2, other layers": theirs(
        Theirs2, sliding_window=3, layer_types=["full_attention", "sliding_attention", "full_attention"]
    ),
    "gemma3": theirs(Theirs3, num_hidden_layers=7, sliding_window=5),
    "gemma3, a pattern": theirs(Theirs3, sliding_window=3, sliding_window_pattern=2),
    "gemma3, two rotations": theirs(
        Theirs3, sliding_window=4, sliding_window_pattern=2, rope_parameters=ROPES
    ),
    "gemma3, another scale": theirs(Theirs3, query_pre_attn_scalar=3, tie_word_embeddings=False),
}
