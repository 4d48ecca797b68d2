"""The control tokens that a new vocabulary begins with, by the kind of model that it is for.

They have the first ids, 0, 1, 2, ..., whatever the algorithm. Read next: framing.py, which puts them around a text.
"""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""End of a document, start of a chat turn, end of a chat turn (ChatML)."""

ENCODER_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
"""What encoders need instead: padding, start of the input, end of a text, a hidden token (BERT)."""

TEXT_TO_TEXT_TOKENS = ("<pad>", "</s>", "<mask>", *(f"<extra_id_{number}>" for number in range(100)))
"""What encoder-decoders need: start of an answer and padding, end of a text, a hole (BART), numbered holes (T5)."""
