"""Text on disk -> packed batches: sources, mixture, packing, held-out sets. Deterministic and resumable.

    files -> sources -> mixture -> samples -> pack -> PackedBatch -> train/loop.py

Read in that order. `documents.py` has the kinds of document (text, conversation, labelled text) that flow through;
encoders have their samples from `framed.py`, and hidden tokens from `mask.py`. `encode_files.py` encodes prose once,
to be trained on often, and `token_files.py` reads that; both are about `token_manifest.py` and `token_shards.py`.
"""
