from malmoi.models.transformer import TransformerConfig

OURS = {
    "transformer": TransformerConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, max_positions=64
    )
}
HAS_REFERENCE = False  # published as code; `test_transformer.py` compares with PyTorch's
