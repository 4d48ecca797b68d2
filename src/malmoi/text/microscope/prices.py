"""Prices: tokens a syllable -> won and dollars, by a table of prices that the reader can replace.

    prices.toml -> PRICES -> bill.py

Prices change and exchange rates too, so each has the day on which it held and the place where it stood. Read next:
`prices.toml` itself, then `bill.py`.
"""

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.core.files import read_text

SHIPPED_PRICES = Path(__file__).with_name("prices.toml")
"""The table that comes with Malmoi: examples with dates, to be checked before money depends on them."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a model's tokens cost, in dollars a million. `tokenizers` are patterns of the names that it is for.

    >>> price = Price(model="example", input=2.5, output=10.0, date=datetime.date(2024, 8, 6), source="a price list",
    ...     tokenizers=("o200k*",))
    >>> price.is_for("o200k_base"), price.is_for("tekken")
    (True, False)
    """

    model: str
    input: float
    output: float
    date: datetime.date
    source: str
    tokenizers: tuple[str, ...]

    def is_for(self, name: str) -> bool:
        """Say whether a tokenizer of that name is meant, upper and lower case alike."""
        return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in self.tokenizers)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """How many won a dollar is, or was on `date`."""

    won_per_dollar: float
    date: datetime.date
    source: str


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a thousand syllables cost at a price: as a prompt, which is input, and as an answer, which is output."""

    price: Price
    dollars_input: float
    dollars_output: float
    won_input: float
    won_output: float


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """Prices in the order of the file, and the exchange rate."""

    prices: tuple[Price, ...]
    exchange: Exchange

    @classmethod
    def load(cls, path: str | Path = SHIPPED_PRICES) -> "PriceTable":
        """Read a table of prices.

        Raises:
            ConfigError: the file cannot be read, is not TOML, or has another key, a missing one, a price that is
                negative or no number, or no date.
        """
        try:
            content = tomllib.loads(read_text(path, error=ConfigError))
        except tomllib.TOMLDecodeError as problem:
            raise ConfigError(f"{path} is not TOML: {problem}. Compare it with {SHIPPED_PRICES}.") from None
        _check_keys(content, {"exchange": dict, "price": list}, str(path))
        exchange, rows = content["exchange"], content["price"]
        _check_keys(
            exchange, {"won_per_dollar": float, "date": datetime.date, "source": str}, f"{path}: exchange"
        )
        kinds = {"model": str, "input": float, "output": float, "date": datetime.date, "source": str}
        for number, row in enumerate(rows, start=1):
            _check_keys(row, kinds | {"tokenizers": list}, f"{path}: price {number}")
        prices = tuple(Price(**row | {"tokenizers": tuple(map(str, row["tokenizers"]))}) for row in rows)
        return cls(prices=prices, exchange=Exchange(**exchange))

    def bills(self, name: str, tokens_per_syllable: float) -> list[Bill]:
        """Return what a thousand syllables cost with the tokenizer `name`, at each price that is for it.

        >>> [bill] = PriceTable.load().bills("mine", 0.8)
        >>> bill.price.model, bill.dollars_input, round(bill.won_input, 3)
        ('one dollar a million', 0.0008, 1.168)
        """
        rate = self.exchange.won_per_dollar
        bills = []
        for price in self.prices:
            if price.is_for(name):
                prompt, answer = (
                    tokens_per_syllable * dollars / 1e3 for dollars in (price.input, price.output)
                )
                bills.append(
                    Bill(
                        price=price,
                        dollars_input=prompt,
                        dollars_output=answer,
                        won_input=prompt * rate,
                        won_output=answer * rate,
                    )
                )
        return bills


def _check_keys(values: object, kinds: Mapping[str, type], where: str) -> None:
    """Refuse a table that has not exactly these keys, each of its kind; a whole number will do for a float."""
    keys = ", ".join(kinds)
    if not isinstance(values, Mapping) or values.keys() != kinds.keys():
        given = f"the keys {', '.join(values)}" if isinstance(values, Mapping) and values else "no keys"
        raise ConfigError(f"{where} has {given}. They are to be: {keys}. See {SHIPPED_PRICES}.")
    for key, kind in kinds.items():
        value: Any = values[key]
        is_right = _is_price(value) if kind is float else isinstance(value, kind)
        if not is_right:
            what = "a number, 0 or more" if kind is float else f"a {kind.__name__}"
            raise ConfigError(f"{where}: {key} = {value!r} is not {what}. See {SHIPPED_PRICES}.")


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
