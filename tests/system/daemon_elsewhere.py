"""A daemon for any machine, and a client of it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import socket
from urllib.parse import urlsplit

from lab import namespaces
from system.machines import Machine
from system.running import DEADLINE_S, RunningCluster

APP = "site"
SERVE = """
import hashlib, http.server, random, sys

echoing = []

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("upgrade"):
            return self.echo()
        _, what, size = self.path.split("/")
        if what == "bytes":
            self.answer(random.Random(1).randbytes(int(size)))
        else:
            self.answer((str(len(echoing)) if what == "echoing" else sys.argv[1]).encode())

    def do_POST(self):
        seen, left = hashlib.sha256(), int(self.headers["content-length"])
        while left:
            data = self.rfile.read1(min(left, 2**16))
            seen.update(data)
            left -= len(data)
        self.answer(seen.hexdigest().encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.end_headers()
        self.close_connection = True
        echoing.append(self)
        try:
            while data := self.rfile.read1(2**16):
                self.wfile.write(data)
        finally:
            echoing.remove(self)

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def deploy(keeper: RunningCluster, says: str, *words: str) -> None:
    """A release of the daemon that answers `/says/0` with one word."""
    folder = keeper.folder.parent / APP
    folder.mkdir(exist_ok=True)
    (folder / "serve.py").write_text(SERVE)
    keeper.motes("deploy", str(folder), "--cmd", f"python serve.py {says}", "--port", "8000", *words)


def where(keeper: RunningCluster) -> set[str]:
    """The hosts on which it serves."""
    return {each["host"] for each in keeper.instances() if each["app"] == APP and each["state"] != "draining"}


def content(size: int) -> bytes:
    """What it answers to `/bytes/SIZE`."""
    return random.Random(1).randbytes(size)


class Client:
    """Connects to the daemon through the keeper's gateway, on the keeper's machine."""

    def __init__(self, keeper: RunningCluster) -> None:
        self._keeper = keeper

    @property
    def _address(self) -> tuple[str, int]:
        netloc = urlsplit(self._keeper.home.cluster()["http"]).netloc
        host, _, port = netloc.rpartition(":")
        return host, int(port)

    @property
    def _host(self) -> str:
        return f"{APP}.localhost:{self._address[1]}"

    def dial(self) -> socket.socket:
        """A bare connection to the gateway."""
        namespace = self._keeper.namespace if isinstance(self._keeper, Machine) else ""
        with namespaces.entered(namespace) if namespace else contextlib.nullcontext():
            return socket.create_connection(self._address, DEADLINE_S)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self._host)
        connection.sock = self.dial()
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": self._host})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def says(self) -> str:
        """The word of the release that serves, or what went wrong."""
        status, body = self.ask("GET", "/says/0")
        return body.decode() if status == 200 else str(status)

    def echoing(self) -> int:
        """How many `switched` connections the daemon has; -1 while it is not reached."""
        with contextlib.suppress(ConnectionError):
            status, body = self.ask("GET", "/echoing/0")
            return int(body) if status == 200 else -1
        return -1

    def download(self, size: int) -> bytes:
        status, body = self.ask("GET", f"/bytes/{size}")
        assert status == 200, body
        return body

    def upload(self, data: bytes) -> None:
        """The daemon must have heard all of it."""
        assert self.ask("POST", "/", data) == (200, hashlib.sha256(data).hexdigest().encode())

    def switched(self) -> socket.socket:
        """A connection that is no HTTP any more: an echo."""
        made = self.dial()
        head = f"GET /echo/0 HTTP/1.1\r\nHost: {self._host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        made.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += made.recv(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        return made

    def begin(self, size: int) -> socket.socket:
        """A download that has begun: its head was read."""
        made = self.dial()
        made.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += made.recv(1)
        return made
