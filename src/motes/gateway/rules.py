"""The loopback rules: which requests a gateway without tokens serves. A core: no I/O, clock or randomness.

The gateway trusts whoever can reach the machine's loopback, and a page in the owner's browser can. So for each request:
- its target is a path, and it names one host: localhost, *.localhost or a loopback address, with the gateway's port
  (a page that rebinds its own name to 127.0.0.1 still sends its own name);
- an Origin, where there is one, is the gateway's own, and fetch metadata says that no other site asked;
- a function takes a form's content types only from what is no browser: a page may send a form anywhere without asking.
There are no CORS headers, ever, so a browser's question before a cross-origin request is always answered no.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from motes.gateway.problems import Problem

LISTENED = frozenset({b"host", b"origin", b"sec-fetch-site"})
"""The headers that `judge` is given."""

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_HTTP_PORT = 80
_CACHED = 256
"""Heads remembered; a head's parts are at most 64 KiB."""

_FORM_TYPES = frozenset({b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"})
_BROWSER_HEADERS = frozenset({b"origin", b"referer", b"cookie"})

Headers = tuple[tuple[bytes, bytes], ...]


@lru_cache(_CACHED)
def judge(target_is_path: bool, listened: Headers, port: int) -> tuple[Problem | None, str]:
    """Why a request is refused, or None, and the name of the host it is for (empty when that is not to be told).

    `listened` are the request's LISTENED headers, with names in lower case, in order.
    """
    if not target_is_path:
        return Problem(400, "bad_target", "the request's target must be a path like /APP/FUNCTION", close=True), ""
    hosts = [value for name, value in listened if name == b"host"]
    if len(hosts) != 1:
        return Problem(400, "bad_host", f"a request needs one Host header; this one has {len(hosts)}", close=True), ""
    name = host_name(hosts[0], port)
    if name is None:
        return Problem(421, "misdirected", _only_local(port), close=True), ""
    return _judge_source(listened, b"http://" + hosts[0].lower()), name


def _judge_source(listened: Headers, own_origin: bytes) -> Problem | None:
    for name, value in listened:
        if name == b"origin" and value.lower() != own_origin:
            return Problem(403, "foreign_origin", "pages of another origin may not call this gateway", close=True)
        if name == b"sec-fetch-site" and value not in (b"same-origin", b"none"):
            return Problem(403, "foreign_site", "pages of another site may not call this gateway", close=True)
    return None


def judge_form(content_type: bytes, header_names: Iterable[bytes]) -> Problem | None:
    """Why a function's call is refused for its content type, or None; `header_names` are all of the request's."""
    if content_type not in _FORM_TYPES:
        return None
    if not any(name in _BROWSER_HEADERS or name.startswith(b"sec-fetch-") for name in header_names):
        return None
    shown = content_type.decode("latin-1")
    return Problem(403, "form_refused", f"a browser may not send {shown} here; send application/json", close=True)


def host_name(host: bytes, port: int) -> str | None:
    """The name in a Host header that this gateway answers to, in lower case; None for any other or another port."""
    match = _HOST.fullmatch(host)
    if match is None or int(match[2] or _HTTP_PORT) != port:
        return None
    name = match[1].decode().lower().removesuffix(".")
    return name if name == "localhost" or name.endswith(".localhost") or _is_loopback(name) else None


def daemon_of(host: str) -> str | None:
    """The APP of `APP.localhost`, or None for another name."""
    return host.removesuffix(".localhost") if host.endswith(".localhost") else None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback and name.startswith("[") == (":" in name)
    except ValueError:
        return False


def _only_local(port: int) -> str:
    return f"this gateway answers only to localhost:{port}, APP.localhost:{port} and loopback addresses"
