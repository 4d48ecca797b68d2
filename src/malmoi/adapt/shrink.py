"""The model's side of a smaller vocabulary: the rows of the tokens that are left, in their new order.

Place in the flow: after `text.vocabulary.shrink`, which says which ids those are. Read next: `rows.py`.
"""

from collections.abc import Sequence

import torch

from malmoi.adapt.rows import vocabulary_of, with_rows
from malmoi.core.errors import ConfigError
from malmoi.nn.stack import Model


def shrink_model(model: Model, kept: Sequence[int]) -> Model:
    """Return a model whose token i is token `kept[i]` of `model`; on texts of these it says the same.

    Logits are those of `model` at the kept ids, so the probabilities of what is gone are spread over the rest. The
    other parameters are shared with `model`, which is not changed.

    Raises:
        ConfigError: an id is outside of the model's vocabulary, or as `with_rows` says.

    >>> from malmoi.testing.models import tiny_llama
    >>> model, kept = tiny_llama(), [3, 70, 71, 200]
    >>> old, new = model(torch.tensor([[70, 71]])).logits, shrink_model(model, kept)(torch.tensor([[1, 2]])).logits
    >>> torch.allclose(new, old[..., kept], atol=1e-5)
    True
    """
    size = vocabulary_of(model.config)
    if outside := [i for i in kept if not 0 <= i < size]:
        raise ConfigError(
            f"id {outside[0]} is not in the model's vocabulary of {size}. Is the tokenizer that of another model?"
        )
    new_ids = {old: new for new, old in enumerate(kept)}
    gathered = torch.tensor(kept)
    return with_rows(model, len(kept), lambda weight: weight[gathered.to(weight.device)], new_id=new_ids.get)
