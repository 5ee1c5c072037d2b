"""Where the gateway is to listen."""

from __future__ import annotations

import errno
import socket

from motes.errors import BadInput, Unavailable


def choose_http(text: str) -> str:
    """`HOST:PORT` with port 0 replaced by a free one. Raises Unavailable when the port cannot be had, and BadInput."""
    host, port = host_and_port(text)
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return f"{host}:{probe.getsockname()[1]}"
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror or error})"
        raise Unavailable(f"port {port} on {host} {why}; choose another: motes up --http {host}:0") from error


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of `HOST:PORT`. Raises BadInput."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"{text!r} is no address; write it like 127.0.0.1:8080")
    return host, int(port)
