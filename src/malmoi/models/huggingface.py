"""Reading a Hugging Face `config.json` so that nothing in it is ignored by accident.

A family takes the keys that it understands from a `ConfigReader`; `finish` refuses whatever is left. The
classic bug of importers, a `rope_theta` or `rope_scaling` that nobody read, cannot happen here.
Place in the flow: `checkpoint.py` makes a reader, a family's `read_config` empties it. Read next:
`rope_parameters.py`, the part of a config that families share.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from malmoi.core.errors import ConfigError

T = TypeVar("T")
N = TypeVar("N", int, float)
REQUIRED: Any = object()  # the default of what has none

# Keys that say nothing about what the network computes: who made the file, training, generation, other programs.
NEUTRAL_KEYS = frozenset({
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "tokenizer_class",
    "_name_or_path", "_commit_hash", "auto_map", "author", "created_date", "license", "is_llama_config",
    "transformers.js_config", "unsloth_version", "unsloth_fixed", "_attn_implementation_autoset",
    "attn_implementation", "_attn_implementation", "torchscript", "use_cache", "use_bfloat16",
    "cache_implementation", "output_past", "tf_legacy_loss", "initializer_range",
    "gradient_checkpointing", "chunk_size_feed_forward",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id",
    "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "output_attentions", "output_hidden_states",
    "output_scores", "return_dict", "use_return_dict", "return_dict_in_generate", "problem_type", "id2label",
    "label2id", "num_labels", "_num_labels", "finetuning_task", "task_specific_params", "prefix", "do_sample",
    "early_stopping", "max_length", "min_length", "num_beams", "num_beam_groups", "num_return_sequences",
    "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "diversity_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "remove_invalid_values", "suppress_tokens", "begin_suppress_tokens",
})  # fmt: skip
# Keys that say nothing as long as they have this value; with another one, a family has to read them.
NEUTRAL_VALUES: Mapping[str, object] = {
    "add_cross_attention": False,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "pruned_heads": {},
    "tie_encoder_decoder": False,
}


class ConfigReader:
    """One `config.json`, read key by key. A key whose value is null counts as absent;
    `nulls` has their names, for the few where null is an answer and absence another.

    >>> reader = ConfigReader({"hidden_size": 64, "rope_thetta": 5e5}, where="config.json")
    >>> reader.positive("hidden_size", int)
    64
    >>> reader.finish()
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: config.json: the key 'rope_thetta' (500000.0) is not one that this family ...
    """

    def __init__(self, raw: Mapping[str, Any], *, where: str) -> None:
        self.raw = {key: value for key, value in raw.items() if value is not None}
        self.nulls = raw.keys() - self.raw.keys()
        self.where = where
        self._unread = {
            key
            for key, value in self.raw.items()
            if key not in NEUTRAL_KEYS and not (key in NEUTRAL_VALUES and value == NEUTRAL_VALUES[key])
        }

    def take(self, key: str, kind: type[T], default: T = REQUIRED) -> T:
        """The value of `key` as `kind`. Raises ConfigError on a wrong type, or no value where there is no default.

        >>> ConfigReader({"rope_theta": 10000}, where="config.json").take("rope_theta", float, 500_000.0)
        10000.0
        """
        self._unread.discard(key)
        value = self.raw.get(key)
        if value is None:
            if default is REQUIRED:
                raise ConfigError(f"{self.where}: the key {key!r} is missing. Add it, as a {kind.__name__}.")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self.where}: {key}={value!r} is not a {kind.__name__}. Correct it.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self.where}: {key}={value!r} is not a finite number. Correct it.")
        return value

    def positive(self, key: str, kind: type[N], default: N = REQUIRED) -> N:
        """`take`, of a number that has to be above 0."""
        value = self.take(key, kind, default)
        if not value > 0:
            raise ConfigError(f"{self.where}: {key}={value!r} is not above 0. Correct it.")
        return value

    def count(self, key: str, default: int = REQUIRED) -> int:
        """`take`, of a number of things of which there may be none."""
        value = self.take(key, int, default)
        if value < 0:
            raise ConfigError(f"{self.where}: {key}={value!r} is below 0. Correct it.")
        return value

    def require(self, key: str, *allowed: object) -> None:
        """Refuse a value that asks for something this family does not compute; absent is fine.

        >>> ConfigReader({"hidden_act": "relu"}, where="config.json").require("hidden_act", "silu")
        Traceback (most recent call last):
            ...
        malmoi.core.errors.ConfigError: config.json: hidden_act='relu' is not supported here. Supported: 'silu'. ...
        """
        self._unread.discard(key)
        value = self.raw.get(key)
        if value is not None and value not in allowed:
            raise ConfigError(
                f"{self.where}: {key}={value!r} is not supported here. Supported: "
                f"{', '.join(map(repr, allowed))}. Loading it as another value would give wrong answers."
            )

    def disregard(self, *keys: str) -> None:
        """Let pass whatever these keys say. For what has no part in the answers, dropout for one."""
        self._unread.difference_update(keys)

    def sub(self, key: str) -> "ConfigReader | None":
        """The nested mapping under `key`, to be read and finished like this one; None if absent or empty."""
        value = self.take(key, dict, {})
        return ConfigReader(value, where=f"{self.where}: {key}") if value else None

    def finish(self) -> None:
        """Raise ConfigError if a key was left unread."""
        if self._unread:
            keys = ", ".join(f"{key!r} ({self.raw[key]!r})" for key in sorted(self._unread))
            is_one = len(self._unread) == 1
            raise ConfigError(
                f"{self.where}: the key{'' if is_one else 's'} {keys} {'is' if is_one else 'are'} not one that "
                "this family reads. Ignoring it could give wrong answers; remove it if it has no effect on the "
                "network."
            )
