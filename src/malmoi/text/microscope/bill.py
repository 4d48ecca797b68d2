"""The bill as tables: what a thousand syllables cost, and the prices that this rests on.

    comparison.py, prices.py -> BILL -> the terminal, page.py

Read next: `prices.py`.
"""

from collections.abc import Iterable

from malmoi.text.microscope.comparison import Comparison
from malmoi.text.microscope.prices import Price
from malmoi.text.microscope.tables import Table


def bill_table(comparison: Comparison) -> Table:
    """What a thousand syllables cost with each tokenizer, as a prompt and as an answer."""
    rows = [
        (
            one.name,
            bill.price.model,
            f"{bill.won_input:,.3f}",
            f"{bill.won_output:,.3f}",
            f"{bill.dollars_input:,.6f}",
            f"{bill.dollars_output:,.6f}",
        )
        for one in comparison.tokenizers
        for bill in comparison.bills(one)
    ]
    header = ("", "at the price of", "won in", "won out", "$ in", "$ out")
    return Table(
        title="the bill for 1,000 syllables", korean="1,000음절의 값", header=header, rows=tuple(rows)
    )


def price_table(comparison: Comparison) -> Table:
    """The prices that the bill uses, in dollars a million tokens and in won a thousand."""
    won = comparison.prices.exchange.won_per_dollar
    rows = [
        (
            price.model,
            f"{price.input:,.2f}",
            f"{price.output:,.2f}",
            f"{price.input * won / 1e3:,.4f}",
            f"{price.output * won / 1e3:,.4f}",
            price.date.isoformat(),
        )
        for price in _used(comparison)
    ]
    header = ("", "$/1M in", "$/1M out", "won/1,000 in", "won/1,000 out", "held on")
    return Table(title="prices of tokens", korean="토큰값", header=header, rows=tuple(rows))


def price_sources(comparison: Comparison) -> list[str]:
    """Where each of these prices stood."""
    return [f"{price.model}: {price.source}" for price in _used(comparison)]


def _used(comparison: Comparison) -> Iterable[Price]:
    return dict.fromkeys(bill.price for one in comparison.tokenizers for bill in comparison.bills(one))


def exchange_note(comparison: Comparison) -> str:
    """The exchange rate, its day and its source."""
    rate = comparison.prices.exchange
    return f"{rate.won_per_dollar:,.2f} won a dollar on {rate.date.isoformat()}: {rate.source}"
