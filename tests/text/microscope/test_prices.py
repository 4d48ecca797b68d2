import datetime
from fractions import Fraction
from pathlib import Path

import pytest

from malmoi.core.errors import ConfigError
from malmoi.text.microscope.prices import SHIPPED_PRICES, PriceTable

TABLE = """
[exchange]
won_per_dollar = 1_500
date = 2025-01-02
source = "a bank"

[[price]]
model = "dear"
input = 3
output = 12.0
date = 2025-01-01
source = "its seller"
tokenizers = ["big*", "other"]
"""


def load(directory: Path, text: str) -> PriceTable:
    file = directory / "prices.toml"
    file.write_text(text, "utf-8")
    return PriceTable.load(file)


def test_a_bill_is_tokens_times_price(tmp_path: Path) -> None:
    [bill] = load(tmp_path, TABLE).bills("Big-Tokenizer", 0.75)
    tokens = 1_000 * Fraction(3, 4)
    assert bill.dollars_input == pytest.approx(float(tokens * 3 / 1_000_000))
    assert bill.dollars_output == pytest.approx(float(tokens * 12 / 1_000_000))
    assert bill.won_input == pytest.approx(float(tokens * 3 / 1_000_000 * 1_500))
    assert bill.won_output == pytest.approx(float(tokens * 12 / 1_000_000 * 1_500))


def test_a_price_is_for_the_tokenizers_that_it_names(tmp_path: Path) -> None:
    table = load(tmp_path, TABLE)
    assert [len(table.bills(name, 1.0)) for name in ("BIG", "other", "another", "small")] == [1, 1, 0, 0]


def test_the_shipped_table_says_of_each_price_when_it_held_and_where_it_stood() -> None:
    table = PriceTable.load()
    assert "examples" in SHIPPED_PRICES.read_text("utf-8")
    assert len(table.prices) > 1
    for price in table.prices:
        assert datetime.date(2020, 1, 1) < price.date <= datetime.date.today()
        assert price.source
        assert price.tokenizers
    assert table.exchange.source


def test_every_tokenizer_has_a_bill_in_the_shipped_table() -> None:
    assert [bill.price.model for bill in PriceTable.load().bills("나의 토크나이저", 1.0)] == [
        "one dollar a million"
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("input = 3", "input = -3", r"price 1: input = -3 is not a number, 0 or more"),
        ("input = 3", "input = inf", "input = inf is not"),
        ("input = 3", "input = true", "input = True is not"),
        ("input = 3", 'input = "3"', "input = '3' is not"),
        ("input = 3", "inptu = 3", "price 1 has the keys model, inptu, .* They are to be: model, input"),
        ("input = 3\n", "", "price 1 has the keys"),
        ("date = 2025-01-01", 'date = "2025-01-01"', "date = '2025-01-01' is not a date"),
        ("won_per_dollar = 1_500", 'won_per_dollar = "1500"', "exchange: won_per_dollar = '1500'"),
        ("[exchange]", "[rate]", "has the keys rate, price"),
        ("[[price]]", "[price]", "price = .* is not a list"),
        ("[exchange]", "[exchange", "is not TOML"),
    ],
)
def test_a_table_that_is_wrong_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TABLE
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, TABLE.replace(old, new))


def test_an_empty_table_is_said_to_have_no_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prices.toml has no keys. They are to be: exchange, price"):
        load(tmp_path, "")


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read .*none.toml"):
        PriceTable.load(tmp_path / "none.toml")
