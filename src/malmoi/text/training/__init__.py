"""Learn a vocabulary from text: `texts -> train_* -> Tokenizer`, a page for every way to cut.

    words.py       나는| 학교에| 간다    every word that is common enough; the others are <unk>
    wordpiece.py   나|##는 학교|##에     the parts of words, from left to right the longest that is known
    bpe.py         나는| 학|교에         what merges make of bytes, or of characters
    morphemes.py   나|는| 학교|에        merges that were learned between the borders of morphemes
    unigram.py     나|는| 학교|에        the most likely pieces
    characters.py  나|는| |학|교|에      characters, each for itself
    jamo.py        ᄂ|ᅡ|ᄂ|ᅳ|ᆫ| |ᄒ|...   the letters in the syllables

A large unit makes short sequences, a big vocabulary and unknown words; a small one the reverse. Side by side, with
figures: docs/tokenizers.md. They share corpus.py (what is counted of the texts), room.py (the size that was asked
for) and assemble.py (the file). NFC is part of each, so 한 typed on a Mac (ᄒ + ᅡ + ᆫ) and on Windows (한) get the
same ids. Read next: bpe.py, the one to begin with.
"""

from malmoi.text.training.bpe import train_bpe, train_character_bpe
from malmoi.text.training.characters import train_characters
from malmoi.text.training.framing import (
    frame_for_encoders,
    frame_for_text_to_text,
    train_bpe_for_encoders,
    train_bpe_for_text_to_text,
)
from malmoi.text.training.jamo import train_jamo
from malmoi.text.training.morphemes import train_morpheme_bpe
from malmoi.text.training.special import ENCODER_TOKENS, SPECIAL_TOKENS, TEXT_TO_TEXT_TOKENS
from malmoi.text.training.unigram import train_unigram
from malmoi.text.training.wordpiece import train_wordpiece
from malmoi.text.training.words import train_words

__all__ = [
    "ENCODER_TOKENS",
    "SPECIAL_TOKENS",
    "TEXT_TO_TEXT_TOKENS",
    "frame_for_encoders",
    "frame_for_text_to_text",
    "train_bpe",
    "train_bpe_for_encoders",
    "train_bpe_for_text_to_text",
    "train_character_bpe",
    "train_characters",
    "train_jamo",
    "train_morpheme_bpe",
    "train_unigram",
    "train_wordpiece",
    "train_words",
]
