"""Sizes and spans of time as people write them: `512M`, `10m`.

Place in the flow: options of the command line and files of settings are read with these. Read next: `config.py`.
"""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]) ?)+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1,024. Raises ValueError, with a sentence, for what is no size.

    >>> read_size("1000000"), read_size("512M"), read_size("1.5GiB")
    (1000000, 536870912, 1610612736)
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no size. Give bytes, or a number with K, M or G, such as 512M.")
    number, unit = found.groups()
    return int(float(number) * 1024 ** " kmgt".index(unit.lower() or " "))


def read_seconds(text: str) -> float:
    """Seconds. Raises ValueError, with a sentence, for what is no span of time.

    >>> read_seconds("90"), read_seconds("10m"), read_seconds("1h30m"), read_seconds("250ms")
    (90.0, 600.0, 5400.0, 0.25)
    """
    if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII):
        return float(text)
    if not _SPAN.fullmatch(text):
        raise ValueError(
            f"{text!r} is no span of time. Give seconds, or a number with ms, s, m, h or d, such as 10m."
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def memory(num_bytes: float) -> str:
    """Bytes in binary units.

    >>> memory(16_060_522_496), memory(4096)
    ('15.0 GiB', '4.00 KiB')
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if num_bytes >= 1024**power:
            scaled = num_bytes / 1024**power
            return (
                f"{scaled:.2f} {unit}"
                if scaled < 10
                else f"{scaled:,.1f} {unit}"
                if scaled < 100
                else f"{scaled:,.0f} {unit}"
            )
    return f"{num_bytes:,.0f} B"
