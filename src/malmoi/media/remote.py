"""An image or a sound on another machine, fetched over https from hosts that the owner of this one has named.

Whoever lets a stranger write the address of a request lends him this machine's place in its network: its own services,
its neighbours, the keys that a cloud hands to whoever asks from inside (server-side request forgery). So nothing is
fetched without a list of hosts, and from these only so:

    on the list -> ALL its addresses public -> connect to one of THOSE -> certificate of the host -> at most so much

The addresses are looked up once, by the system and in its time: a name that says others to a second question gains
nothing. What a redirect leads to goes through the same door. Place in the flow: `llm/media.py` calls it for a URL.
Read next: `sources.py`.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from malmoi import __version__
from malmoi.core.errors import MediaError

PORT = 443
MAX_BYTES = 50_000_000  # as `sound.py` has it; of an image `image.py` allows less
MAX_SECONDS = 10.0
MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORLD = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given out
_UNREAL = (
    ipaddress.ip_network("2001::/32"),  # Teredo: it hides an address of IPv4
    ipaddress.ip_network("2002::/16"),  # 6to4: the same
    ipaddress.ip_network("2001:db8::/32"),  # for documentation
    ipaddress.ip_network("3fff::/20"),  # the same
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an address of IPv4

Resolve = Callable[[str], Sequence[str]]
"""From a host to its addresses."""
Connect = Callable[[str, str, float], socket.socket]
"""From an address, the host that has to prove itself there, and seconds, to a connection."""


def resolve(host: str) -> list[str]:
    """The addresses of a host, as the system knows them. Raises OSError if there are none."""
    found = socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def connect(address: str, host: str, seconds: float) -> socket.socket:
    """A connection to `address`, which has a certificate of `host`. Raises OSError for anything else."""
    end = time.monotonic() + seconds
    plain = socket.create_connection((address, PORT), timeout=seconds)
    try:
        plain.settimeout(_left(end))
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


class RemoteMedia:
    """Fetches files from `hosts`, each at most `max_bytes` and `max_seconds`, redirects included.

    >>> fetch = RemoteMedia(["images.example"])
    >>> fetch("https://localhost/cat.png")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.MediaError: nothing is fetched from localhost, only from: images.example. Send the file itself.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        resolve: Resolve = resolve,
        connect: Connect = connect,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._resolve, self._connect = resolve, connect

    def __call__(self, url: str) -> bytes:
        """The bytes at `url`. Raises MediaError for every other outcome, without a word about what was found there."""
        end = time.monotonic() + self._max_seconds
        for _ in range(MAX_REDIRECTS + 1):
            target = self._checked(url)
            try:
                found = self._ask(target, end)
            except (OSError, http.client.HTTPException) as error:
                raise MediaError(
                    f"fetching from {target.hostname} failed ({type(error).__name__}). Send the file itself."
                ) from error
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise MediaError(f"{target.hostname} leads on and on. Give the address where the file is.")

    def _checked(self, url: str) -> SplitResult:
        """The parts of a URL that may be asked for."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise MediaError("an address of a file is no URL. Write https://HOST/PATH.") from None
        is_clean = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme != "https" or port not in (None, PORT) or parts.username is not None or not is_clean:
            raise MediaError("a file is fetched from https://HOST/PATH alone, in ASCII. Give such a URL.")
        if host not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            raise MediaError(f"nothing is fetched from {host:.80}, only from: {known}. Send the file itself.")
        return parts

    def _ask(self, target: SplitResult, end: float) -> bytes | str:
        """What is there, or where it says that it is instead."""
        host = target.hostname or ""
        addresses = self._resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise MediaError(f"{host} is no machine of the public network. Send the file itself.")
        with closing(self._connected(addresses, host, end)) as connection:
            # A timeout of the socket is one of each read, and a byte now and then would go on for ever.
            is_over = threading.Event()
            watch = threading.Timer(_left(end), _cut, (connection, is_over))
            watch.start()
            try:
                with _answer(connection, target) as response:
                    return self._read(response, host)
            finally:
                watch.cancel()
                if is_over.is_set():  # whatever it looked like
                    raise TimeoutError

    def _connected(self, addresses: Sequence[str], host: str, end: float) -> socket.socket:
        """A connection to the first of the addresses that has one, each with its share of the time. Raises OSError."""
        *others, last = addresses
        for number, address in enumerate(others):
            with suppress(OSError):
                return self._connect(address, host, _left(end) / (len(addresses) - number))
        return self._connect(last, host, _left(end))

    def _read(self, response: http.client.HTTPResponse, host: str) -> bytes | str:
        if response.status in _REDIRECTS and (location := response.getheader("Location")):
            return location
        if response.status != 200:
            raise MediaError(f"{host} answers {response.status}. Check the address of the file.")
        data = response.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise MediaError(f"a file of {host} has more than {self._max_bytes:,} bytes. Send a smaller one.")
        if response.length:  # the end came too early, which read(n) does not say
            raise http.client.IncompleteRead(b"", response.length)
        return data


def _answer(connection: socket.socket, target: SplitResult) -> http.client.HTTPResponse:
    """What comes on a connection that stands already."""
    asking = http.client.HTTPConnection(target.hostname or "")
    asking.sock = connection
    headers = {
        "Accept": "image/*, audio/*",
        "Host": target.hostname or "",
        "User-Agent": f"malmoi/{__version__}",
    }
    asking.request("GET", urlunsplit(("", "", target.path or "/", target.query, "")), headers=headers)
    return asking.getresponse()


def is_public(address: str) -> bool:
    """Whether an address is one that anybody in the world would reach, and means no other by a detour.

    >>> [is_public(address) for address in ("1.1.1.1", "2606:4700:4700::1111", "127.0.0.1", "169.254.169.254")]
    [True, True, False, False]
    >>> [is_public(address) for address in ("::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "fe80::1%eth0", "2002:7f00:1::")]
    [False, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    meant: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [found]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            meant = [found.ipv4_mapped]
        elif found in _NAT64:
            meant = [ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)]
        elif found not in _WORLD or any(found in network for network in _UNREAL):
            return False
    return all(one.is_global and not one.is_multicast for one in meant)


def _left(end: float) -> float:
    """Seconds until `end`. Raises TimeoutError if there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _cut(connection: socket.socket, is_over: threading.Event) -> None:
    is_over.set()
    with suppress(OSError):  # it may have ended in the meantime
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which another thread is in
