"""A recurrent model is `torch.nn`'s, from a file that holds its tensors under PyTorch's own names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, count_parameters, initialise, load_config, load_model
from malmoi.models.recurrent import RecurrentConfig, zaremba_large
from malmoi.nn.recurrent import Recurrent
from malmoi.train.forward import Forward

TORCH: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CONFIG = {
    "model_type": "recurrent",
    "cell": "lstm",
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
}


@pytest.mark.parametrize("cell", TORCH)
def test_a_model_of_torch_modules_loads_and_gives_the_same_logits(cell: str, tmp_path: Path) -> None:
    theirs = nn.ModuleDict({
        "embedding": nn.Embedding(61, 24),
        "rnn": TORCH[cell](24, 24, num_layers=2, batch_first=True),
        "head": nn.Linear(24, 61, bias=False),
    })  # fmt: skip
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"cell": cell}), "utf-8")
    tokens = torch.randint(61, (2, 12))
    with torch.no_grad():
        wanted = theirs["head"](theirs["rnn"](theirs["embedding"](tokens))[0])
        torch.testing.assert_close(load_model(tmp_path)(tokens).logits, wanted)


def test_an_unknown_cell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"cell": "mamba"}), "utf-8")
    with pytest.raises(
        ConfigError, match="cell='mamba' is not supported here. Supported: 'elman', 'lstm', 'gru'"
    ):
        load_config(tmp_path)


def test_the_large_lstm_has_the_66_million_parameters_of_the_papers_that_compare_with_it() -> None:
    """Merity et al. 2017, arXiv:1708.02182, table 1: "Zaremba et al. (2014) - LSTM (large)", 66M."""
    with torch.device("meta"):
        assert round(count_parameters(build_model(zaremba_large())) / 1e6) == 66


def test_a_new_lstm_begins_with_its_forget_gates_open() -> None:
    model = initialise(
        build_model(RecurrentConfig(vocab_size=61, hidden_size=8, num_layers=2, cell="lstm")), seed=0
    )
    for layer in (module for module in model.modules() if isinstance(module, Recurrent)):
        gates = layer.input.bias.view(4, 8) + layer.state.bias.view(4, 8)
        assert gates[1].eq(1).all()
        assert gates[[0, 2, 3]].eq(0).all()


def test_a_recurrent_model_is_not_compiled_to_be_trained() -> None:
    model = build_model(RecurrentConfig(vocab_size=61, hidden_size=8, num_layers=1, cell="gru"))
    with pytest.raises(ConfigError, match="this model is recurrent, .* Set compile=false"):
        Forward(model, is_compiled=True)
