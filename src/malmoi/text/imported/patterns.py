r"""The encodings that come as a tiktoken file, which holds neither the pattern that cuts words nor the control tokens.

The patterns are those of the models' own programs, written so that the `tokenizers` library reads the same into them:
there `{1,3}+` repeats a repetition, and `$` is also the end of a line. Used by tiktoken.py and gpt2.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = rf"{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CL100K = LLAMA3.replace(_SPACES, rf"\s+\z|{_SPACES}")
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)


_END = "<|endoftext|>"
_END_OF_PROMPT = "<|endofprompt|>"
_ENDS = {"bos_token": _END, "eos_token": _END}
_LLAMA3_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    "<|python_tag|>", "<|image|>", *(f"<|reserved_special_token_{number}|>" for number in range(2, 246)),
)  # fmt: skip
_QWEN_TOKENS = (_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What an encoding adds to the ranks in its file.

    `config` are entries of a tokenizer_config.json, `normalizer` is what the model's own program does first, and
    `sha256` is that of the file.
    """

    pattern: str
    num_ranks: int
    special: Mapping[str, int]
    config: Mapping[str, str | bool] = field(default_factory=dict)
    normalizer: str | None = None
    sha256: str = ""


ENCODINGS = {
    "r50k_base": Encoding(
        pattern=GPT2,
        num_ranks=50_256,
        special={_END: 50_256},
        config=_ENDS,
        sha256="306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    "p50k_base": Encoding(
        pattern=GPT2,
        num_ranks=50_280,
        special={_END: 50_256},
        config=_ENDS,
        sha256="94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    ),
    "cl100k_base": Encoding(
        pattern=CL100K,
        num_ranks=100_256,
        special={
            _END: 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            _END_OF_PROMPT: 100_276,
        },
        config=_ENDS,
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": Encoding(
        pattern=O200K,
        num_ranks=199_998,
        special={_END: 199_999, _END_OF_PROMPT: 200_018},
        config=_ENDS,
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "llama3": Encoding(
        pattern=LLAMA3,
        num_ranks=128_000,
        special={token: 128_000 + index for index, token in enumerate(_LLAMA3_TOKENS)},
        config={
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "pad_token": "<|finetune_right_pad_id|>",
            "add_bos_token": True,
        },
        sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
    ),
    "qwen": Encoding(
        pattern=QWEN,
        num_ranks=151_643,
        special={token: 151_643 + index for index, token in enumerate(_QWEN_TOKENS)},
        config={"eos_token": _END, "pad_token": _END},
        normalizer="NFC",
    ),
}
"""By the name that the encoding has in its own program; the file `qwen.tiktoken` is known by its name alone."""
