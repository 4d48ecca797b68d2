"""WordPiece: words in parts, where a part knows whether it begins the word: `학교` `##에`.

BERT's way. It cuts greedily: from left to right, each time the longest part that the vocabulary has. A word with a
character that the vocabulary lacks is `[UNK]` as a whole, and spaces are not kept. Read next: bpe.py, whose merges
learn the parts.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from malmoi.text.pretokenize import KOREAN_PATTERN
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.assemble import assemble
from malmoi.text.training.corpus import common_characters, read
from malmoi.text.training.room import check_reached, check_room
from malmoi.text.training.special import SPECIAL_TOKENS

UNKNOWN = "[UNK]"
_START = (
    "▁"  # stands before each word while merges are learned, so that they tell its beginning from its middle
)


def train_wordpiece(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Train a WordPiece tokenizer (Wu et al. 2016, arXiv:1609.08144, section 4.1), as BERT's is used.

    Ids: the special tokens, `[UNK]`, each character that is common enough, at the start of a word and inside of one,
    then the parts in the order learned. *Our difference*: parts are merged by how often they meet, as in the
    `tokenizers` library, not by likelihood; and the merges are `BpeTrainer`'s, because the library's WordPiece trainer
    numbers the parts in the order of a hash table, another one in each run.

    Raises:
        TokenizerError: as `train_bpe` does: the vocabulary has no room, or the texts have too few pairs to merge.

    >>> tokenizer = train_wordpiece(["학교에 학교에서 학교는 나는 너는"] * 9, vocab_size=212)
    >>> [tokenizer.backend.id_to_token(i) for i in tokenizer.encode("학교에 나에 나로")]
    ['학교에', '나', '##에', '[UNK]']
    """
    control = [*special_tokens, UNKNOWN]
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(KOREAN_PATTERN), behavior="isolated")]
    )
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.Metaspace(replacement=_START, prepend_scheme="always", split=False)]
    )
    with common_characters(read(texts, show_progress=show_progress)) as (common, common_texts):
        characters = [character for character in common if not character.isspace() and character != _START]
        alphabet = [*characters, *(f"##{character}" for character in characters)]
        num_fixed = check_room(
            vocab_size,
            control,
            len(alphabet),
            f"{len(characters)} characters, at the start and inside of a word",
        )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=[_START, *characters], show_progress=show_progress
        )
        trained.train_from_iterator(common_texts, trainer)
    vocab = dict.fromkeys([*control, *alphabet, *_parts(trained)])
    check_reached(len(vocab), vocab_size, num_fixed, "pairs to merge")
    return assemble(
        models.WordPiece(
            {part: token_id for token_id, part in enumerate(list(vocab)[:vocab_size])}, unk_token=UNKNOWN
        ),
        special_tokens=special_tokens,
        unknown=UNKNOWN,
        pre_tokenizer=words,
        decoder=decoders.WordPiece(),
    )


def _parts(trained: tokenizers.Tokenizer) -> Iterator[str]:
    """What the merges made, in order, written as WordPiece does."""
    for left, right in json.loads(trained.to_str())["model"]["merges"]:
        merged = left + right
        yield merged.removeprefix(_START) if merged.startswith(_START) else f"##{merged}"
