"""Another vocabulary for a tokenizer that there is: Korean comes in, or what a corpus never uses goes.

    expand.py        tokens for Hangul, every id of other text as it was
    superwords.py    tokens across spaces, as a second stage of training
    shrink.py        without the tokens that a corpus never uses
    growth.py        how BPE and Unigram take in new pieces
    continuing.py    which pieces: the trainer, set on words that are spelled in tokens
    hangul_pieces.py, spelling.py    what may be joined, and how a base spells it

Place in the flow: `malmoi tokenizer expand`; a model follows its tokenizer in `malmoi.adapt`. Read `expand.py` first.
"""
