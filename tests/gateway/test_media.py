"""MessagePack and raw bytes in and out, by content type."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from motes.gateway import media
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Route
from motes.model.signature import resolve

MSGPACK = "application/msgpack"


def route(kind: Any) -> Route:
    schema = msgspec.json.schema(kind)
    return Route("function", ("one",), parameters=schema, parameter_names=("value",), result=schema)


@pytest.fixture
def echo(trial: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a test with a gateway whose hello.greet answers its own body; its types are `kind`."""

    def run(kind: Any, test: Any) -> None:
        async def same(body: bytes) -> bytes:
            return body

        async def with_types(gateway: Any) -> None:
            monkeypatch.setattr("tests.gateway.conftest.GREET", route(kind))
            gateway.cluster.functions["hello.greet"] = same
            await test(gateway)

        trial(with_types)

    return run


def test_messagepack_goes_in_and_comes_out_where_it_is_asked_for(echo: Any) -> None:
    value = {"name": "Ada", "n": [1, 2.5, None, True]}

    async def test(gateway: Any) -> None:
        body = msgspec.msgpack.encode(value)
        back = await gateway.request("POST", "/hello/greet", body, content_type=MSGPACK, accept=MSGPACK)
        assert (back.status, back.headers["content-type"]) == (200, MSGPACK)
        assert msgspec.msgpack.decode(back.body) == value
        plain = await gateway.request("POST", "/hello/greet", body, content_type=MSGPACK)
        assert (plain.headers["content-type"], plain.json()) == ("application/json", value)
        assert [json.loads(call[1]) for call in gateway.cluster.calls] == [value, value]

    echo(dict, test)


def test_bytes_stay_bytes_in_messagepack_wherever_the_types_say_so(echo: Any) -> None:
    class Part(msgspec.Struct):
        data: bytes
        more: bytes | None
        by_name: dict[str, bytes]
        pairs: list[tuple[int, bytes]]
        text: str

    value = {"data": b"\0\xff", "more": None, "by_name": {"a": b"b"}, "pairs": [[1, b"c"]], "text": "QWRh"}

    async def test(gateway: Any) -> None:
        body = msgspec.msgpack.encode(value)
        back = await gateway.request("POST", "/hello/greet", body, content_type=MSGPACK, accept=MSGPACK)
        assert msgspec.msgpack.decode(back.body) == value

    echo(Part, test)


def test_raw_bytes_go_in_and_out_of_a_function_of_bytes(echo: Any) -> None:
    raw = "application/octet-stream"

    async def test(gateway: Any) -> None:
        data = bytes(range(256))
        back = await gateway.request("POST", "/hello/greet", data, content_type=raw, accept=raw)
        assert (back.headers["content-type"], back.body) == (raw, data)

    echo(bytes, test)


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x81", b"\x91" * 5000, msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x"))]
)
def test_what_is_no_messagepack_is_400(echo: Any, body: bytes) -> None:
    async def test(gateway: Any) -> None:
        answer = await gateway.request("POST", "/hello/greet", body, content_type=MSGPACK)
        assert (answer.status, answer.json()["title"]) == (400, "Malformed msgpack")
        assert gateway.cluster.calls == []

    echo(dict, test)


def test_a_body_that_grows_over_the_limit_as_json_is_413(echo: Any) -> None:
    async def test(gateway: Any) -> None:
        body = msgspec.msgpack.encode("\x01" * (PAYLOAD_LIMIT_BYTES // 5))
        answer = await gateway.request("POST", "/hello/greet", body, content_type=MSGPACK)
        assert (answer.status, answer.json()["limit_bytes"]) == (413, PAYLOAD_LIMIT_BYTES)

    echo(str, test)


@pytest.mark.parametrize(
    ("result", "kind", "accept"),
    [
        (b'"no base64!"', bytes, "application/octet-stream"),
        (b"5", bytes, "application/octet-stream"),
        (b"{", bytes, "application/octet-stream"),
        (b"1" + b"0" * 30, int, MSGPACK),
    ],
)
def test_a_result_that_breaks_the_declared_type_is_the_functions_fault(
    echo: Any, result: bytes, kind: type, accept: str
) -> None:
    """A process that was taken over writes what it likes; the gateway stays up and says whose mistake it was."""

    async def lie(body: bytes) -> bytes:
        return result

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.greet"] = lie
        answer = await gateway.request("POST", "/hello/greet", b"", accept=accept)
        assert (answer.status, answer.json()["type"]) == (500, "urn:motes:problem:bad_result")

    echo(kind, test)


def test_json_costs_no_look_at_the_types() -> None:
    assert not media.needs_route([(b"content-type", b"application/json; charset=utf-8"), (b"accept", b"*/*")])
    assert not media.needs_route([])


def test_a_long_result_of_a_wide_type_is_looked_at_once_and_not_once_for_each_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An app chooses both, and while they are compared the gateway serves nobody."""
    looks = 0

    def counted(schema: Any, root: Any) -> Any:
        nonlocal looks
        looks += 1
        return resolve(schema, root)

    monkeypatch.setattr(media, "resolve", counted)
    wide = {"anyOf": [{"type": "integer"}] * 1000 + [{"type": "array", "prefixItems": [{}] * 1000, "items": {}}]}
    result = {"type": "array", "items": wide}
    headers = [(b"accept", MSGPACK.encode())]
    media.from_json(headers, json.dumps([[""], "a"] * 1000).encode(), Route("function", result=result))
    assert looks < 5_000
