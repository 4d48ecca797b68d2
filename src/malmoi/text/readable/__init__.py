"""What the fast tokenizers do, told in plain Python: to be read, and to be watched step by step.

    bpe.py               merges: learned from words, then applied to a word
    unigram.py           pieces with probabilities, and the likeliest way to cut a word into them
    unigram_training.py  how such pieces are learned
    words.py             the words that either is given: a `Tokenizer` opened, and its text cut

Tests prove each equal to the fast one. `malmoi tokenizer explain` shows them at work. Read next: bpe.py.
"""
