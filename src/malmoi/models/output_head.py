"""States -> logits: the matrix that ends every model that writes, a part of pages.

Place in the flow: a page's `build` gives it to `Decoder` as `head`. Read next: `llama.py`.
"""

from malmoi.nn.embedding import Embedding
from malmoi.nn.linear import Linear


def output_head(embedding: Embedding, *, is_tied: bool = True) -> Linear:
    """A row for each token that `embedding` has; if tied, its own rows (Press & Wolf 2016, arXiv:1608.05859).

    >>> embedding = Embedding(64, 8)
    >>> output_head(embedding).weight is embedding.tokens.weight
    True
    """
    vocab_size, hidden_size = embedding.tokens.weight.shape
    head = Linear(hidden_size, vocab_size, bias=False)
    if is_tied:
        head.weight = embedding.tokens.weight
    return head
