"""What tokens of a model cost: for the page's bill, which reads it in `/v1/models`. Read next: `entry.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Price:
    """So much of a currency for a million tokens of prompts, and of answers.

    >>> Price(currency="KRW", input=500, output=2000)
    Price(currency='KRW', input=500, output=2000)
    """

    currency: Literal["KRW", "USD"]
    input: float
    output: float
