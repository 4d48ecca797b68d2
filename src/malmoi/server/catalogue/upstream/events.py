"""Bytes as they come -> the data of server-sent events, however they are cut.

A line is decoded when it is whole, so no cut is inside a syllable; and none grows without bound. Place in the flow:
`upstream.py` reads an answer through this. Read next: `told.py`, what the events say.
"""

from collections.abc import AsyncGenerator, AsyncIterator

MAX_LINE_BYTES = 4 * 2**20
"""An event of ours has a few hundred; one with a whole picture would be too much."""
MAX_ANSWER_BYTES = 64 * 2**20


class BrokenAnswer(Exception):
    """What comes from another machine is not what it should be; the message goes on "its answer ...".

    It may quote what came: `client.py` takes our key out of it, and cuts it.
    """


class WithheldAnswer(BrokenAnswer):
    """What that machine did not want to say to the end. It is well: what it was asked is what it does not answer."""


async def events(
    chunks: AsyncIterator[bytes], *, max_line: int = MAX_LINE_BYTES, max_bytes: int = MAX_ANSWER_BYTES
) -> AsyncGenerator[str, None]:
    """The data of each event; comments and other fields are passed over, as the standard has it.

    Raises BrokenAnswer for a line that is too long or no UTF-8, and for too much altogether.
    """
    data: list[str] = []
    async for line in _lines(chunks, max_line=max_line, max_bytes=max_bytes):
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data.clear()
    if data:
        yield "\n".join(data)


async def _lines(chunks: AsyncIterator[bytes], *, max_line: int, max_bytes: int) -> AsyncGenerator[str, None]:
    rest, num_bytes = bytearray(), 0
    async for chunk in chunks:
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise BrokenAnswer(f"has more than {max_bytes} bytes")
        rest += chunk
        if b"\n" in chunk:
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield _decoded(line, max_line)
        if len(rest) > max_line:
            raise BrokenAnswer(f"has a line of more than {max_line} bytes")
    if rest:
        yield _decoded(rest, max_line)


def _decoded(line: bytearray, max_line: int) -> str:
    if len(line) > max_line:
        raise BrokenAnswer(f"has a line of more than {max_line} bytes")
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        raise BrokenAnswer("is not UTF-8") from None
