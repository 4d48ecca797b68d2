"""Text on disk -> packed batches: sources, mixture, packing, held-out sets. Deterministic and resumable.

    files -> sources -> mixture -> samples -> pack -> PackedBatch -> train/loop.py

Read in that order. `documents.py` has the two kinds of document (text, conversation) that flow through.
"""
