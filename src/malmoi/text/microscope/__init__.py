"""The microscope: what a tokenizer makes of Korean, in counts that can be compared, and what that costs.

    genre.py       texts -> a sample of a stated size, the same for every tokenizer
    counts.py      a sample -> tokens a syllable, an eojeol; NFD; partial tokens; Korean against English
    analysed.py    a text with the borders of its morphemes, from a treebank or an analyser
    borders.py     borders of tokens against borders of morphemes
    prices.py      tokens a syllable -> won and dollars, by prices.toml, which is yours to replace
    measures.py    the figures of a sample, their titles, and which end of each is good
    comparison.py  all of it for several tokenizers
    tables.py      a comparison as rows: the terminal prints them, page.py draws them
    bill.py        the rows about money
    export.py      a comparison as JSON and CSV
    page.py        a comparison as one web page, with the tokens of the same sentences side by side

Read `comparison.py` first: it says what is measured, and calls the others.
"""
