"""Layers stored as a convolution of width one: the matrix lies [in, out], and several may lie side by side in one.

OpenAI's code had the linear layers of GPT-2 so, and its checkpoints still do; ours lie [out, in], each on its own.
Place in the flow: a page's `rules` say which layers are stored so. Read next: `gpt2.py`.
"""

from malmoi.weights.rules import Rename, Rule, Split, Transpose


def conv1d(theirs: str, ours: str) -> list[Rule]:
    """The matrix and the bias of a layer.

    >>> [rule.theirs for rule in conv1d("h.{}.mlp.c_fc", "blocks.{}.ffn.mixer.up")]
    [('h.{}.mlp.c_fc.weight',), ('h.{}.mlp.c_fc.bias',)]
    """
    return [Transpose(f"{theirs}.weight", f"{ours}.weight"), Rename(f"{theirs}.bias", f"{ours}.bias")]


def fused_conv1d(theirs: str, *ours: str, size: int) -> list[Rule]:
    """The same of several layers side by side, each with `size` outputs.

    >>> weight, bias = fused_conv1d("h.{}.attn.c_attn", "blocks.{}.q", "blocks.{}.k", "blocks.{}.v", size=768)
    >>> bias.ours
    ('blocks.{}.q.bias', 'blocks.{}.k.bias', 'blocks.{}.v.bias')
    """
    weight, bias = (
        Split(f"{theirs}.{part}", [f"{name}.{part}" for name in ours], dim=0, sizes=[size] * len(ours))
        for part in ("weight", "bias")
    )
    return [Transpose(f"{theirs}.weight") >> weight, bias]
