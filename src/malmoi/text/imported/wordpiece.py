"""BERT's format: vocab.txt, one token a line, the line's number its id.

WordPiece takes the longest token that a word begins with, again and again; `##` marks those that go on with a word
(Devlin et al. 2018, arXiv:1810.04805, section 3.2). What happens to case and accents stands in tokenizer_config.json.
"""

from collections.abc import Mapping
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.content import Converted, Part, assemble

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def read_wordpiece(text: str, config: Mapping[str, Any]) -> Converted:
    """Convert the content of a vocab.txt; `config` is the tokenizer_config.json.

    Without `do_lower_case` there, text is lowered unless a token has a capital letter, which would be of no use then.

    Raises:
        TokenizerError: a token stands in two lines, or one that BERT needs in none.
    """
    # Not splitlines: a token may be U+2028, which some take for the end of a line.
    lines = text.removesuffix("\n").split("\n")
    vocab: dict[str, int] = {}
    for token_id, line in enumerate(lines):
        token = line.removesuffix("\r")
        if token in vocab:
            raise TokenizerError(
                f"{token!r} stands in the lines {vocab[token] + 1} and {token_id + 1}. Rename one."
            )
        vocab[token] = token_id
    names = {name: str(config.get(name) or token) for name, token in _SPECIAL.items()}
    if missing := [
        token for token in (names[f"{name}_token"] for name in ("unk", "cls", "sep")) if token not in vocab
    ]:
        raise TokenizerError(
            f"there is no line {missing[0]!r}, which BERT's files have. Fetch the file again."
        )
    special = {token: vocab[token] for token in names.values() if token in vocab}
    is_cased = any("A" <= character <= "Z" for token in vocab.keys() - special for character in token)
    model: Part = {
        "type": "WordPiece",
        "unk_token": names["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    content = assemble(
        model,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(config.get("tokenize_chinese_chars", True)),
            "strip_accents": config.get("strip_accents"),
            "lowercase": bool(config.get("do_lower_case", not is_cased)),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor={
            "type": "BertProcessing",
            "sep": [names["sep_token"], vocab[names["sep_token"]]],
            "cls": [names["cls_token"], vocab[names["cls_token"]]],
        },
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
        special=special.items(),
    )
    named: dict[str, Any] = {name: token for name, token in names.items() if token in vocab}
    return Converted(
        content, named | {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    )
