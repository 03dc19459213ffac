"""A hub on this machine: it lists files, hands them out in ranges, and breaks off where it is told to."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0" * 20
LARGE = 5000
"""Files from here on are known by their SHA-256, as those in git-LFS are."""


@dataclass(kw_only=True)
class Hub:
    """`files` of the one repository `id`; `asked` are (method, file, first byte) of every request for a file."""

    id: str
    files: dict[str, bytes]
    url: str = ""
    break_at: int | None = None
    status: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def listed(self) -> dict[str, object]:
        siblings = [self._sibling(name, data) for name, data in self.files.items()]
        return {"id": self.id, "modelId": self.id, "sha": COMMIT, "siblings": siblings}

    def etag(self, name: str) -> str:
        data = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return self.hashes.get(name) or (hashlib.sha256(data).hexdigest() if len(data) >= LARGE else blob)

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        found: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": self.etag(name)}
        if len(data) >= LARGE:
            found |= {"lfs": {"sha256": self.etag(name), "size": len(data), "pointerSize": 130}, "blobId": "0" * 40}
        return found


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        match = re.fullmatch(rf"/{re.escape(self.hub.id)}/resolve/{COMMIT}/(.+)", path)
        if re.fullmatch(rf"/api/models/{re.escape(self.hub.id)}(/revision/\w+)?", path) and self.hub.status is None:
            self._send(200, json.dumps(self.hub.listed()).encode(), body, {"Content-Type": "application/json"})
        elif match and match[1] in self.hub.files and self.hub.status is None:
            self._file(match[1], body)
        else:
            status = self.hub.status or 404
            codes = {403: "GatedRepo", 404: "RepoNotFound"}
            self._send(status, b"{}", body, {"X-Error-Code": codes[status]} if status in codes else {})

    def _file(self, name: str, body: bool) -> None:
        data = self.hub.files[name]
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(span[1]) if span else 0
        self.hub.asked.append((self.command, name, first))
        about = {"ETag": f'"{self.hub.etag(name)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if span:
            about["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self._send(206 if span else 200, data[first:], body, about)

    def _send(self, code: int, data: bytes, body: bool, about: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in (about | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body and self.hub.break_at is not None and len(data) > self.hub.break_at:
            data, self.hub.status = data[: self.hub.break_at], 503
        if body:
            self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *words: object) -> None:
        """Silent."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answering", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
