"""The bricks: one idea of the field a file, no text, no model families.

Every tensor's shape is said in one alphabet. Signatures carry it (`Float[Tensor, "B T D"]`), the test
runner checks it, production does not pay for it; inside a function a suffix (`q_BTNH`) appears only
where the shape changes.

    B  batch (1 when packed)      N  query heads          D  model width (hidden size)
    T  query positions            K  key/value heads      F  feed-forward width
    S  key positions              G  queries a key head   V  vocabulary
                                     (G = N / K)          H  head width (`half` of it in a rotation)
    P  patches of an image        C  channels             E  experts
                                                          R  rank of a latent

Read `linear`, `norm`, `rope`, `mlp` first, then the three nouns of attention: `cache` stores,
`attend.AttentionRule` says, `attend.attend` computes. `attention` joins them, `block` stacks them,
and `models/llama.py` is the first page written with these bricks.
"""
