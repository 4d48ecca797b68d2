"""Files of other machines: only from hosts that were named, from public addresses, in time, and not too large."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from malmoi.core.errors import MediaError
from malmoi.media import remote
from malmoi.media.remote import RemoteMedia, is_public

HOST, OTHER = "images.example", "other.example"
PUBLIC = "93.184.215.14"
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.7",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "3fff::1",
    "::127.0.0.1",
    "64:ff9b:1::7f00:1",
    "5f00::1",
    "4000::1",
]


class Files(ThreadingHTTPServer):
    """A server of files behind what would be TLS. It notes what it is asked, and which address was connected to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.reached: list[tuple[str, str]] = []
        self.addresses: dict[str, Sequence[str]] = {HOST: [PUBLIC], OTHER: [PUBLIC]}
        self.num_lookups = 0

    def resolve(self, host: str) -> Sequence[str]:
        self.num_lookups += 1
        return self.addresses[host]

    def connect(self, address: str, host: str, seconds: float) -> socket.socket:
        self.reached.append((address, host))
        return socket.create_connection(("127.0.0.1", self.server_port), timeout=seconds)

    def fetcher(self, *hosts: str, max_seconds: float = 30.0) -> RemoteMedia:
        return RemoteMedia(
            hosts or (HOST,),
            max_bytes=100_000,
            max_seconds=max_seconds,
            resolve=self.resolve,
            connect=self.connect,
        )


class _Handler(BaseHTTPRequestHandler):
    server: Files

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind in ("to", "round"):
            self.send_response(302)
            self.send_header("Location", self.path if kind == "round" else rest.replace("*", "/"))
            self.end_headers()
            return
        with suppress(OSError):  # who asked has gone
            getattr(self, f"_{kind}")()

    def _file(self) -> None:
        self._send(b"\x89PNG of a cat")

    def _large(self) -> None:
        self._send(b"x" * 100_001)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 10_000)

    def _cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        self._slowly(b"x")

    def _heads(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._slowly(b"X-A: b\r\n")

    def _missing(self) -> None:
        self.send_error(404)

    def _nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9 secret\r\n")

    def _slowly(self, piece: bytes) -> None:
        for _ in range(600):
            self.wfile.write(piece)
            time.sleep(0.05)

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_of_a_named_host_comes_from_the_address_that_was_looked_up(files: Files) -> None:
    fetch = files.fetcher()
    assert fetch(f"https://{HOST}/file/cat.png?size=1#top") == b"\x89PNG of a cat"
    assert files.asked == [(HOST, "/file/cat.png?size=1")]
    assert files.reached == [(PUBLIC, HOST)]
    assert files.num_lookups == 1
    assert fetch(f"HTTPS://{HOST.upper()}:443/file") == b"\x89PNG of a cat"


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/file",
        f"ftp://{HOST}/file",
        f"//{HOST}/file",
        f"https://{HOST}:8443/file",
        f"https://{HOST}:99999/file",
        f"https://{HOST}:x/file",
        f"https://user@{HOST}/file",
        f"https://{HOST}@{OTHER}/file",
        f"https://{HOST}/고양이.png",
        f"https://{OTHER}/file",
        f"https://{HOST}.{OTHER}/file",
        f"https://x.{HOST}/file",
        f"https://{HOST}./file",
        "https://127.0.0.1/file",
        "https://[::1]/file",
        "https://[::1/file",
        "https:///file",
        "https://2130706433/file",
        f"https://{HOST}\\@{OTHER}/file",
        f"https://{HOST}/file HTTP/1.1\r\nX: y\r\n\r\n",
        f"https://{HOST}/a b",
        "file:///etc/passwd",
        "",
    ],
    ids=ascii,
)
def test_every_other_address_is_refused_before_anything_is_looked_up(files: Files, url: str) -> None:
    with pytest.raises(MediaError):
        files.fetcher()(url)
    assert (files.asked, files.num_lookups) == ([], 0)


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("others", [[], [PUBLIC]], ids=["alone", "behind a public one"])
def test_a_name_that_stands_for_an_address_of_ours_is_not_followed(
    files: Files, address: str, others: list[str]
) -> None:
    assert not is_public(address)
    files.addresses[HOST] = [*others, address]
    with pytest.raises(MediaError, match=f"{HOST} is no machine of the public network") as caught:
        files.fetcher()(f"https://{HOST}/file")
    assert address not in str(caught.value)
    assert files.reached == []


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_a_public_address_is_one(address: str) -> None:
    assert is_public(address)


def test_a_name_that_changes_its_mind_is_asked_once(files: Files) -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]
    fetch = RemoteMedia([HOST], resolve=lambda host: answers.pop(0), connect=files.connect)
    assert fetch(f"https://{HOST}/file") == b"\x89PNG of a cat"
    assert files.reached == [(PUBLIC, HOST)]
    with pytest.raises(MediaError):
        fetch(f"https://{HOST}/file")


def test_a_redirect_goes_through_the_same_door(files: Files) -> None:
    both = files.fetcher(HOST, OTHER)
    assert both(f"https://{HOST}/to/*file*cat.png") == b"\x89PNG of a cat"
    assert both(f"https://{HOST}/to/https:**{OTHER}*file") == b"\x89PNG of a cat"
    assert files.reached[-1] == (PUBLIC, OTHER)
    for elsewhere in (
        f"https:**{OTHER}*file",
        f"http:**{HOST}*file",
        "https:**169.254.169.254*",
        "file:***etc*passwd",
    ):
        files.asked.clear()
        with pytest.raises(MediaError):
            files.fetcher()(f"https://{HOST}/to/{elsewhere}")
        assert len(files.asked) == 1
    files.addresses[OTHER] = ["169.254.169.254"]
    with pytest.raises(MediaError, match="no machine of the public network"):
        both(f"https://{HOST}/to/https:**{OTHER}*file")


def test_redirects_end(files: Files) -> None:
    with pytest.raises(MediaError, match="leads on and on"):
        files.fetcher()(f"https://{HOST}/round")
    assert len(files.asked) == remote.MAX_REDIRECTS + 1


@pytest.mark.parametrize("path", ["large", "endless"])
def test_no_more_is_read_than_is_allowed(files: Files, path: str) -> None:
    with pytest.raises(MediaError, match="more than 100,000 bytes"):
        files.fetcher()(f"https://{HOST}/{path}")


@pytest.mark.parametrize("path", ["drip", "heads"])
def test_a_byte_now_and_then_is_not_waited_for(files: Files, path: str) -> None:
    begin = time.monotonic()
    with pytest.raises(MediaError, match="TimeoutError"):
        files.fetcher(max_seconds=0.5)(f"https://{HOST}/{path}")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("path", "reason"), [("cut", "IncompleteRead"), ("missing", "404"), ("nonsense", "BadStatusLine")]
)
def test_what_is_no_whole_file_is_an_error_that_does_not_quote_it(
    files: Files, path: str, reason: str
) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        files.fetcher()(f"https://{HOST}/{path}")
    assert "secret" not in str(caught.value)


def test_a_host_that_is_not_there_is_an_error(files: Files) -> None:
    def nobody(host: str) -> Sequence[str]:
        raise socket.gaierror("not known")

    with pytest.raises(MediaError, match="gaierror"):
        RemoteMedia([HOST], resolve=nobody, connect=files.connect)(f"https://{HOST}/file")


def test_who_cannot_prove_to_be_the_host_is_not_listened_to(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PORT", files.server_port)
    with pytest.raises(OSError, match="SSL"):
        remote.connect("127.0.0.1", HOST, 5.0)
    assert files.asked == []


def test_where_the_first_address_does_not_answer_the_next_is_tried(files: Files) -> None:
    files.addresses[HOST] = ["1.1.1.1", PUBLIC]
    shares: list[float] = []

    def connect(address: str, host: str, seconds: float) -> socket.socket:
        shares.append(seconds)
        if address != PUBLIC:
            raise TimeoutError
        return files.connect(address, host, seconds)

    fetch = RemoteMedia([HOST], max_seconds=30.0, resolve=files.resolve, connect=connect)
    assert fetch(f"https://{HOST}/file") == b"\x89PNG of a cat"
    assert shares[0] < 16 < shares[1] < 30
    assert files.reached == [(PUBLIC, HOST)]


def test_the_handshake_has_the_time_that_the_connection_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "PORT", silent.getsockname()[1])
        slow = remote.socket.create_connection

        def slowly(*given: object, **more: object) -> socket.socket:
            time.sleep(0.5)
            return slow(*given, **more)  # type: ignore[arg-type]

        patch.setattr(remote.socket, "create_connection", slowly)
        with pytest.raises(TimeoutError):
            remote.connect("127.0.0.1", HOST, 0.4)
