"""`str <-> ids`: a tokenizer.json, ours or imported, used exactly as it is.

    Conversation -> chat.render -> TOKENIZER -> ids -> engine -> ids -> Spelling, ByteStream -> str

Bytes are the truth: a text is the bytes of its tokens, one after the other, and `decode` reads them as
UTF-8. Read next: plain.py (what keeps special tokens out), decoding.py (the bytes of a token), training/.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from malmoi.core.errors import TokenizerError
from malmoi.core.files import json_text, read_json, read_text, write_texts
from malmoi.text.composition import compose_bytes, takes_apart
from malmoi.text.decoding import Pieces
from malmoi.text.imported.files import convert, find_file, is_tokenizer_json
from malmoi.text.plain import encode, for_plain_text, open_whole

_DEFAULT_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
_MAX_VOCAB_SIZE = 2**31


class Tokenizer:
    """A tokenizer of the `tokenizers` library, in which plain text and trusted text are kept apart.

    `encode` is for text that anybody may have written: nothing in it becomes a special token.
    `encode_special` is for text that a program wrote: there `<|im_end|>` is one id. `encode_framed` is for an encoder
    model: plain text between the tokens that the file puts around it. The others add no token of their own, and none
    truncates, whatever the file says.

    Attributes:
        vocab_size: the highest id + 1.
        special_tokens: the control tokens and their ids, such as `{"<|endoftext|>": 0}`.
        config: what `save` writes to tokenizer_config.json; change it at will, for example
            `tokenizer.config["eos_token"] = "<|im_end|>"`.
        is_composing: the file takes syllables apart (NFD), and a decoded text is put together again, which the bytes
            of its tokens, one after the other, are not yet.

    >>> from malmoi.text.training import train_bpe
    >>> tokenizer = train_bpe(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=284)
    >>> tokenizer.encode("나는 학교에")
    [283, 271]
    >>> [tokenizer.token_bytes(i).decode() for i in tokenizer.encode("나는 학교에")]
    ['나는', ' 학교에']
    >>> tokenizer.encode_special("<|im_end|>")
    [2]
    >>> tokenizer.decode(tokenizer.encode("<|im_end|>"), skip_special=True)
    '<|im_end|>'
    """

    vocab_size: int
    special_tokens: Mapping[str, int]
    config: dict[str, Any]
    is_composing: bool = False

    def __init__(self, source: str, config: Mapping[str, Any] | None = None) -> None:
        """Build a tokenizer from the contents of a tokenizer.json and a tokenizer_config.json.

        Raises:
            TokenizerError: `source` is not a tokenizer that the `tokenizers` library reads, or its decoder
                is of a kind that we cannot stream.
        """
        try:
            self._trusted = open_whole(source)
        except Exception as problem:
            raise TokenizerError(
                f"not a tokenizer.json: {problem}. Train or fetch the tokenizer again."
            ) from problem
        content = json.loads(source)
        added = self._trusted.get_added_tokens_decoder()
        ids = content["model"]["vocab"]
        last = max(ids.values(), default=-1) if isinstance(ids, dict) else len(ids) - 1
        self.vocab_size = 1 + max([last, *added])
        if self.vocab_size > _MAX_VOCAB_SIZE:
            raise TokenizerError(
                f"a token has the id {self.vocab_size - 1}, and ids go up to {_MAX_VOCAB_SIZE - 1}: they are read as "
                "signed numbers of 32 bits. Correct that id."
            )
        self.special_tokens = {added[i].content: i for i in sorted(added) if added[i].special}
        self.config = dict(_DEFAULT_CONFIG if config is None else config)
        self._source = source
        self._special_ids = frozenset(self.special_tokens.values())
        self._plain = for_plain_text(self._trusted, content, self.special_tokens)
        self.is_composing = takes_apart(content.get("normalizer"))
        self._pieces = Pieces(self._trusted, content.get("decoder"))

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer's file, or the first that a directory has: tokenizer.json, else tokenizer.model and others.

        What is not a tokenizer.json is turned into one, in memory: text/imported has the formats. A
        tokenizer_config.json beside the file is read too.

        Raises:
            TokenizerError: a file is missing, not what its name says, or of no known format.
        """
        file = find_file(Path(path))
        if not is_tokenizer_json(file):
            return cls.convert(file)
        source = read_text(file, error=TokenizerError)
        config_file = file.with_name("tokenizer_config.json")
        config = read_json(config_file, error=TokenizerError) if config_file.is_file() else None
        try:
            return cls(source, config)
        except TokenizerError as problem:
            raise TokenizerError(f"{file}: {problem}") from problem

    @classmethod
    def convert(
        cls, file: str | Path, *, encoding: str | None = None, pattern: str | None = None
    ) -> "Tokenizer":
        """Read a tokenizer's file in the format of another library.

        A file of tiktoken does not say where words are cut: if we do not know it by its name or content, `encoding`
        names one that we know, or `pattern` is a regular expression.

        Raises:
            TokenizerError: the file is broken, of no known format, or does what no tokenizer.json can say.
        """
        content, config = convert(Path(file), encoding=encoding, pattern=pattern)
        try:
            return cls(json.dumps(content, ensure_ascii=False), {**_DEFAULT_CONFIG, **config})
        except TokenizerError as problem:
            raise TokenizerError(f"{file}: {problem}") from problem

    def with_special(self, token_ids: Iterable[int]) -> "Tokenizer":
        """Return a tokenizer with the same ids to which these tokens are control tokens too, or this one if they are.

        A model's placeholder of an image is often one that the file does not call special, and `encode` would find
        it in what somebody typed. Ids that no token has are passed over: nobody can type them.
        """
        names = {i: self._trusted.id_to_token(i) for i in token_ids if i not in self._special_ids}
        if not any(names.values()):
            return self
        content = json.loads(self._source)
        added = {token["id"]: token for token in content["added_tokens"]}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for token_id, name in names.items():
            if name is not None:
                as_it_was = added.get(token_id, {"id": token_id, "content": name, **flags})
                added[token_id] = as_it_was | {"special": True}
        content["added_tokens"] = [added[i] for i in sorted(added)]
        return Tokenizer(json.dumps(content), self.config)

    def require_stated_ids(self) -> None:
        """Refuse a file that states another id for an added token than the token has: ask before the file is changed.

        The library says nothing and numbers an added token anew where its id is another token's, or lies behind a gap.
        Which of the two ids a model was trained with, no file tells.

        Raises:
            TokenizerError: a token's stated id is not the one that it has.

        >>> from malmoi.testing.tokenizer import ByteTokenizer
        >>> content = json.loads(ByteTokenizer().backend.to_str())
        >>> content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "<x>"})
        >>> Tokenizer(json.dumps(content)).require_stated_ids()
        Traceback (most recent call last):
        malmoi.core.errors.TokenizerError: the file states the id 300 for the added token '<x>', but it is loaded as ...
        """
        for token in json.loads(self._source).get("added_tokens", []):
            name, stated = token["content"], token["id"]
            token_id = self.token_id(name)
            if token_id != stated:
                other = self._trusted.id_to_token(stated)
                whose = "no token's" if other is None else f"that of {other!r}"
                raise TokenizerError(
                    f"the file states the id {stated} for the added token {name!r}, but it is loaded as {token_id}, "
                    f"and {stated} is {whose}. Correct the file: give the token the id that the model was trained with."
                )

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, exactly as it was read or trained, and tokenizer_config.json.

        `transformers.AutoTokenizer.from_pretrained(directory)` gives the same ids. Other files in the
        directory stay as they are. Both files are replaced, or neither.

        Raises:
            TokenizerError: the directory cannot be written.
        """
        file, config_file = (Path(directory) / name for name in ("tokenizer.json", "tokenizer_config.json"))
        write_texts({file: self._source, config_file: json_text(self.config)}, error=TokenizerError)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The library's tokenizer behind `encode_special`. To be read, not changed."""
        return self._trusted

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text. The string of a special token in it is spelled out like any other.

        Raises:
            TokenizerError: `text` holds a lone surrogate, which no UTF-8 text can.
        """
        return list(self._encode_plain(text).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return `[encode(text) for text in texts]`, on several cores."""
        for text in texts:
            _check_unicode(text)
        encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]  # a list of its own each time

    def encode_special(self, text: str) -> list[int]:
        """Return the ids of trusted text, such as a chat template's own: special strings are special ids."""
        _check_unicode(text)
        return list(encode(self._trusted, text).ids)

    def encode_framed(self, text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
        """Return the ids of plain text with the tokens that the file adds, and for each id which of two texts it is of.

        BERT's file makes `[CLS] text [SEP]` of one text and `[CLS] text [SEP] pair [SEP]` of two, of which the last
        part is of the second text, 1. A file that adds nothing adds nothing here. Raises as `encode` does.
        """
        second = None if pair is None else self._encode_plain(pair)
        framed = self._trusted.post_process(self._encode_plain(text), second)
        return list(framed.ids), list(framed.type_ids)

    def _encode_plain(self, text: str) -> tokenizers.Encoding:
        _check_unicode(text)
        return encode(self._plain, text)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of `ids`. Bytes that are not UTF-8 read as U+FFFD, as in `bytes.decode`."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes:
        """Return the bytes of `ids`; half a character stays half a character.

        Raises:
            TokenizerError: an id is outside of the vocabulary.
        """
        kept = [i for i in ids if i not in self._special_ids] if skip_special else ids
        joined = b"".join(self.token_bytes(i, at_start=index == 0) for index, i in enumerate(kept))
        return compose_bytes(joined) if self.is_composing else joined

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
        """Return what one id adds to a text: `▁한` adds " 한" in UTF-8, but "한" at the text's start.

        An id that no token has, in a vocabulary with gaps, adds nothing.

        Raises:
            TokenizerError: the id is outside of the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(
                f"id {token_id} is outside of the vocabulary, 0 to {self.vocab_size - 1}. "
                "Check that the ids come from this tokenizer."
            )
        return self._pieces.first(token_id) if at_start else self._pieces.rest(token_id)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, in the vocabulary's spelling (`<|im_end|>`, `Ġthe`, `##s`), or None."""
        token_id: int | None = self._trusted.token_to_id(token)
        return token_id


def _check_unicode(text: str) -> None:
    """Refuse a string that no UTF-8 text can hold, before the library does with a message about types."""
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise TokenizerError(
            f"the text holds half a character, U+{ord(text[problem.start]):04X} at {problem.start}. Repair it "
            "first, for example: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
