from typing import Any

from transformers import MT5Config as TheirMT5
from transformers import T5Config as Theirs

from malmoi.models.mt5 import MT5Config
from malmoi.models.t5 import T5Config

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
}
FEW_BUCKETS = {"num_buckets": 6, "max_distance": 8}  # so that the short sequences of the laws reach them all
OURS = {
    "t5": T5Config(**SMALL, **FEW_BUCKETS, num_decoder_layers=2, head_dim=3),
    "t5, version 1.1": T5Config(
        **SMALL, num_decoder_layers=1, head_dim=5, max_positions=64, norm_eps=1e-4, is_gated=True, is_tied=False,
        scales_logits=False,
    ),
    "t5, mt5": MT5Config(
        **SMALL, **FEW_BUCKETS, num_decoder_layers=2, head_dim=3, is_gated=True, is_tied=False
    ),
    "t5, mt5 as it is left": MT5Config(**SMALL, **FEW_BUCKETS, num_decoder_layers=1, head_dim=3),
}  # fmt: skip


def theirs(kind: type[Theirs | TheirMT5] = Theirs, **changes: Any) -> Theirs | TheirMT5:
    small = {"vocab_size": 61, "d_model": 24, "d_ff": 40, "num_layers": 2, "num_heads": 4, "d_kv": 6}
    ids = {"pad_token_id": None, "eos_token_id": None, "decoder_start_token_id": 0}
    architecture = f"{kind.model_type.upper()}ForConditionalGeneration"
    return kind(**(small | ids | {"architectures": [architecture]} | changes))


THEIRS = {
    "t5": theirs(),
    "few buckets": theirs(relative_attention_num_buckets=6, relative_attention_max_distance=8),
    "heads of another width, sides of two depths": theirs(
        d_kv=5, num_decoder_layers=3, layer_norm_epsilon=0.1
    ),
    "gated": theirs(feed_forward_proj="gated-gelu"),
    "logits that are not scaled": theirs(scale_decoder_outputs=False),
    "values without effect": theirs(dropout_rate=0.5, initializer_factor=0.5, classifier_dropout=0.5),
    "mt5": theirs(TheirMT5, num_decoder_layers=1),
}
