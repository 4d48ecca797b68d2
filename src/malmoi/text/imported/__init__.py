"""Tokenizers in the formats of other libraries, turned into a tokenizer.json in memory.

    file -> its own reader -> Converted(content, config) -> Tokenizer

`files.py` knows which reader a file is for. Each page holds one format, and the ids are those of the library that the
format comes from: nothing is normalised that it would not normalise, and what a tokenizer.json cannot say is refused.
Read next: files.py, then tekken.py, the simplest.
"""
