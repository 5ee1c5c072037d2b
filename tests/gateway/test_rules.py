"""Each loopback rule with the attack it stops, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from motes.gateway.rules import host_name

OWN_PORT = 8080


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8080", "localhost"),
        ("LocalHost:8080", "localhost"),
        ("localhost.:8080", "localhost"),
        ("web.localhost:8080", "web.localhost"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("127.8.9.1:8080", "127.8.9.1"),
        ("[::1]:8080", "[::1]"),
    ],
)
def test_local_names_are_answered(host: str, name: str) -> None:
    assert host_name(host.encode(), OWN_PORT) == name


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "localhost.evil.example:8080",
        "evillocalhost:8080",
        "localhost:8081",
        "localhost",
        "0.0.0.0:8080",
        "[::]:8080",
        "::1:8080",
        "[127.0.0.1]:8080",
        "192.168.0.2:8080",
        "127.1:8080",
        "2130706433:8080",
        "user@localhost:8080",
        "localhost:8080:8080",
        "localhost:08080x",
        "localhost :8080",
        "localhost:8080, evil.example",
        "",
        ":8080",
    ],
)
def test_any_other_name_or_port_is_not(host: str) -> None:
    assert host_name(host.encode(), OWN_PORT) is None


def test_without_a_port_a_host_means_port_80() -> None:
    assert host_name(b"localhost", 80) == "localhost"


FOREIGN = [
    # A page that made its own name resolve to 127.0.0.1 (DNS rebinding).
    ({"host": "evil.example:PORT"}, 421, "misdirected"),
    ({"host": "localhost:1"}, 421, "misdirected"),
    # A page of any other origin, one of another port or of a daemon's, or one without an origin of its own.
    ({"origin": "https://evil.example"}, 403, "foreign_origin"),
    ({"origin": "http://localhost:3000"}, 403, "foreign_origin"),
    ({"origin": "http://page.localhost:PORT"}, 403, "foreign_origin"),
    ({"origin": "https://localhost:PORT"}, 403, "foreign_origin"),
    ({"origin": "null"}, 403, "foreign_origin"),
    # What a browser says of requests that carry no Origin.
    ({"sec_fetch_site": "cross-site"}, 403, "foreign_site"),
    ({"sec_fetch_site": "same-site"}, 403, "foreign_site"),
    # Two names for one request: one for us, one for whoever is fooled.
    ({"Host": "evil.example:PORT"}, 400, "bad_host"),
]


@pytest.mark.parametrize(("headers", "status", "code"), FOREIGN)
@pytest.mark.parametrize("host", ["localhost:PORT", "web.localhost:PORT"])
def test_a_foreign_page_reaches_neither_functions_nor_daemons(
    trial: Any, host: str, headers: dict[str, str], status: int, code: str
) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(lambda reader, writer: pytest.fail("the daemon was reached"))
        headers_sent = {"host": host, "content_type": "application/json", **headers}
        response = await gateway.request("POST", "/hello/greet", b'"Ada"', **_at_port(headers_sent, gateway.port))
        assert (response.status, response.json()["type"]) == (status, f"urn:motes:problem:{code}")
        assert not gateway.cluster.calls
        assert not gateway.ingress_asked

    trial(test)


def _at_port(headers: dict[str, str], port: int) -> dict[str, str]:
    return {name: value.replace("PORT", str(port)) for name, value in headers.items()}


@pytest.mark.parametrize("headers", [{"origin": "http://localhost:PORT", "sec_fetch_site": "same-origin"}, {}])
def test_a_page_of_the_gateways_own_and_no_page_at_all_are_served(trial: Any, headers: dict[str, str]) -> None:
    async def test(gateway: Any) -> None:
        sent = _at_port({"content_type": "application/json", **headers}, gateway.port)
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"', **sent)).status == 200

    trial(test)


@pytest.mark.parametrize("form", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
@pytest.mark.parametrize(
    "browser",
    [
        {"origin": "http://localhost:PORT"},
        {"referer": "https://evil.example/"},
        {"cookie": "a=b"},
        {"sec_fetch_mode": "navigate"},
    ],
)
def test_a_browsers_form_is_refused_whatever_gives_the_browser_away(
    trial: Any, form: str, browser: dict[str, str]
) -> None:
    async def test(gateway: Any) -> None:
        sent = _at_port({"content_type": form, **browser}, gateway.port)
        response = await gateway.request("POST", "/hello/greet", b'"Ada"', **sent)
        assert (response.status, response.json()["type"]) == (403, "urn:motes:problem:form_refused")
        assert not gateway.cluster.calls

    trial(test)


def test_curl_with_its_form_content_type_works(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        sent = {"content_type": "application/x-www-form-urlencoded", "user_agent": "curl/8.5.0", "accept": "*/*"}
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"', **sent)).json() == "Hello, Ada"

    trial(test)


def test_two_content_types_are_refused(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        sent = {"content_type": "application/json", "Content_Type": "text/plain"}
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"', **sent)).status == 415
        assert not gateway.cluster.calls

    trial(test)


def test_a_browsers_question_before_a_cross_origin_call_is_answered_no(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        asked = {"origin": "https://evil.example", "access_control_request_method": "POST"}
        assert (await gateway.request("OPTIONS", "/hello/greet", **asked)).status == 403
        asked["origin"] = f"http://localhost:{gateway.port}"
        assert (await gateway.request("OPTIONS", "/hello/greet", **asked)).status == 405

    trial(test)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # The target names a host of its own, whatever Host says.
        (b"POST http://evil.example/hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 1\r\n\r\n1", 400),
        (b"POST http://localhost:PORT/hello/greet HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1\r\n\r\n1", 400),
        (b"GET http://web.localhost:PORT/ HTTP/1.1\r\nHost: web.localhost:PORT\r\n\r\n", 400),
        (b"CONNECT web.localhost:PORT HTTP/1.1\r\nHost: web.localhost:PORT\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        # No host, or several.
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\nhOST: evil.example\r\n\r\n", 400),
        # Obsolete folding, and whitespace before the colon, which others may read as another header.
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\n evil.example\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: y\r\n Host: evil.example\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : evil.example\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin:\r\n http://evil.example\r\n\r\n", 400),
    ],
)
def test_requests_with_two_readings_are_refused(trial: Any, data: bytes, status: int) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(lambda reader, writer: pytest.fail("the daemon was reached"))
        assert (await gateway.raw(data)).startswith(b"HTTP/1.1 %d " % status)
        assert not gateway.cluster.calls
        assert not gateway.ingress_asked

    trial(test)


@pytest.mark.parametrize("host", [b"evil.example", b"web.localhost:PORT"])
def test_a_later_request_on_a_functions_connection_is_judged_for_itself(trial: Any, host: bytes) -> None:
    async def test(gateway: Any) -> None:
        request = b'POST /hello/greet HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\n"Ada"'
        answer = await gateway.raw(request % b"localhost:PORT" + request % host)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 421 " in answer
        assert len(gateway.cluster.calls) == 1

    trial(test)


def test_a_trailer_changes_nothing_about_where_a_request_came_from(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        head = b"POST /hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\nTransfer-Encoding: chunked\r\n"
        foreign = head + b'Origin: https://evil.example\r\n\r\n5\r\n"Ada"\r\n0\r\nOrigin: http://localhost:PORT\r\n\r\n'
        assert (await gateway.raw(foreign)).startswith(b"HTTP/1.1 403 ")
        assert not gateway.cluster.calls

    trial(test)
