"""Weights on disk and under other names: everything between a checkpoint's bytes and a model's state dict.

`hub` turns a path or a hub id into a directory, `files` a directory into named tensors and back (safetensors,
never pickle), `rules` the checkpoint's names and layouts into ours and back. Read them in that order; then
`models/`, where each family states its rules.
"""
