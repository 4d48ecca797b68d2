from typing import Any

from malmoi.models.recurrent import RecurrentConfig

SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "num_layers": 2}
OURS = {
    "recurrent, elman": RecurrentConfig(cell="elman", **SMALL),
    "recurrent, lstm": RecurrentConfig(cell="lstm", **SMALL),
    "recurrent, gru, all options": RecurrentConfig(cell="gru", max_positions=64, is_tied=True, **SMALL),
}
HAS_REFERENCE = False  # tests/nn/test_recurrent.py and tests/models/test_recurrent.py compare with torch.nn
IS_ONE_GRAPH = False  # how many sequences run at each step is data, and PyTorch's fused loop wants it
