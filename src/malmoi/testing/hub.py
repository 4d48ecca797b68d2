"""A hub on this machine: as much of the Hugging Face Hub's HTTP interface as fetching a model needs.

    GET       /api/models/ORG/NAME[/revision/REVISION]   the commit, the files
    GET       /api/models/ORG/NAME/tree/REVISION         every file with its size and hash
    GET HEAD  /ORG/NAME/resolve/REVISION/FILE            a file, with ETag, X-Repo-Commit, Content-Length

For tests of whatever fetches models (`weights/hub.py`, `transformers`), with no network: the server listens
on the loopback interface only. Each repository has one commit, a hash of its files, and one branch, `main`.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


@contextmanager
def local_hub(directory: str | Path, *, gated: Collection[str] = ()) -> Iterator[str]:
    """Serve the directories `directory/ORG/NAME` as models while the block runs; yield the endpoint's URL.

    Models named in `gated` refuse their files to everybody. Files may be added or changed while it runs.

        with local_hub(tmp_path) as endpoint:
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            directory = malmoi.weights.hub.resolve("org/name")
    """
    handler = type("Handler", (_Handler,), {"root": Path(directory), "gated": frozenset(gated)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    gated: frozenset[str]
    protocol_version = "HTTP/1.1"  # clients keep their connection

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)(?:/(revision|tree)/([^/]+))?", path):
            hub_id, view, revision = match.groups()
            if (model := self._find(hub_id, revision or "main")) is not None:
                self._send_json(_tree(model) if view == "tree" else _info(hub_id, model))
        elif match := re.fullmatch(r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", path):
            hub_id, revision, name = match.groups()
            if (model := self._find(hub_id, revision)) is not None:
                self._send_file(hub_id, model, name)
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # `_send` leaves the body out

    def _find(self, hub_id: str, revision: str) -> Path | None:
        model = self.root / hub_id
        if ".." in hub_id or not model.is_dir():
            self._refuse(401, "RepoNotFound")  # as the real one does, so as not to tell what is private
        elif revision not in ("main", _commit(model)):
            self._refuse(404, "RevisionNotFound")
        else:
            return model
        return None

    def _send_file(self, hub_id: str, model: Path, name: str) -> None:
        if hub_id in self.gated:
            self._refuse(403, "GatedRepo")
        elif name not in _files(model):
            self._refuse(404, "EntryNotFound")
        else:
            content = (model / name).read_bytes()
            self._send(200, content, {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": _commit(model)})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a test's output is the test's."""


def _info(hub_id: str, model: Path) -> dict[str, object]:
    return {"id": hub_id, "sha": _commit(model), "siblings": [{"rfilename": name} for name in _files(model)]}


def _tree(model: Path) -> list[dict[str, object]]:
    contents = {name: (model / name).read_bytes() for name in _files(model)}
    return [{"type": "file", "path": n, "size": len(c), "oid": _hash(c)} for n, c in contents.items()]


def _files(model: Path) -> list[str]:
    return sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())


def _commit(model: Path) -> str:
    return _hash(b"".join(name.encode() + (model / name).read_bytes() for name in _files(model)))


def _hash(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
