"""A key and a field are told once: what a file may leave out, what null means, what is refused, and the way back."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from malmoi.core.errors import ConfigError
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import REQUIRED, ConfigReader


@dataclass(frozen=True, kw_only=True)
class Config:
    num_layers: int
    norm_eps: float = 1e-5
    window: int | None = None
    is_tied: bool = True
    activation: Literal["gelu", "silu"] = "gelu"


KEYS = {"n_layer": "num_layers", "eps": "norm_eps", "span": "window", "tie": "is_tied", "act": "activation"}


def read(raw: dict[str, Any], **defaults: Any) -> Config:
    reader = ConfigReader(raw, where="config.json")
    config = Config(**read_keys(reader, KEYS, Config, **defaults))
    reader.finish()
    return config


@pytest.mark.parametrize(
    "config",
    [
        Config(num_layers=2),
        Config(num_layers=3, norm_eps=0.5, window=4, is_tied=False, activation="silu"),
    ],
)
def test_what_is_written_is_read_back(config: Config) -> None:
    assert read(write_keys(config, KEYS)) == config


def test_a_key_that_is_absent_is_the_familys_default_or_else_the_fields_own() -> None:
    assert read({"n_layer": 2}) == Config(num_layers=2)
    assert read({}, num_layers=7, window=9, is_tied=False) == Config(num_layers=7, window=9, is_tied=False)


def test_null_is_none_where_a_field_may_be_that_and_absent_elsewhere() -> None:
    assert read({"n_layer": 2, "span": None, "eps": None}, window=9) == Config(num_layers=2, window=None)


@pytest.mark.parametrize(
    ("raw", "defaults", "message"),
    [
        ({}, {}, "the key 'n_layer' is missing"),
        ({"n_layer": 2}, {"norm_eps": REQUIRED}, "the key 'eps' is missing"),
        ({"n_layer": 2}, {"window": REQUIRED}, "the key 'span' is missing"),
        ({"n_layer": 0}, {}, "n_layer=0 is not above 0"),
        ({"n_layer": 2, "span": 0}, {}, "span=0 is not above 0"),
        ({"n_layer": 2.0}, {}, "n_layer=2.0 is not a int"),
        ({"n_layer": 2, "tie": 1}, {}, "tie=1 is not a bool"),
        ({"n_layer": 2, "act": "relu"}, {}, "act='relu' is not supported here. Supported: 'gelu', 'silu'"),
    ],
    ids=range(8),  # not their texts: one is an object, whose address differs from process to process
)
def test_what_is_missing_or_of_another_kind_is_refused_by_name(
    raw: dict[str, Any], defaults: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(raw, **defaults)
