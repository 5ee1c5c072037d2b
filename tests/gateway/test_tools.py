"""`/mcp` with the SDK's own client: tools are what owners offer, and the loopback rules hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client

from motes.errors import FunctionError
from motes.model.keeper import Tool

NUMBER = {"type": "integer"}
PLAIN = {"title": "Point", "type": "object", "properties": {"x": NUMBER}}
POINT = {**PLAIN, "$defs": {"Point": PLAIN}}
"""As a zygote describes a parameter that is a struct: at the top, and as a definition."""
OFFERED = [
    Tool("hello", "greet", "Greet somebody.", {"type": "string"}, ("who",)),
    Tool(
        "shop",
        "add",
        "",
        {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}},
        ("a", "b"),
    ),
    Tool("shop", "now", "", {}, ()),
    Tool("map", "move", "", POINT, ("point",)),
    Tool("bad", "fail", "", {"type": "string"}, ("how",)),
]


async def echo(body: bytes) -> bytes:
    return body or b'"nothing"'


async def fail(body: bytes) -> bytes:
    raise FunctionError("ValueError: no", type="ValueError", traceback="")


def prepare(gateway: Any) -> str:
    gateway.cluster.offered = OFFERED
    gateway.cluster.functions |= {"shop.add": echo, "shop.now": echo, "map.move": echo, "bad.fail": fail}
    gateway.cluster.functions["secret.f"] = echo
    return f"http://localhost:{gateway.port}/mcp"


def test_the_tools_are_listed_with_what_they_take(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        async with Client(prepare(gateway)) as client:
            found = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(found) == {"hello__greet", "shop__add", "shop__now", "map__move", "bad__fail"}
        assert found["hello__greet"].description == "Greet somebody."
        assert found["hello__greet"].input_schema["properties"] == {"who": {"type": "string"}}
        assert found["map__move"].input_schema["$defs"]["Point"]["title"] == "Point"
        assert found["map__move"].input_schema["properties"] == {"point": {"$ref": "#/$defs/Point"}}

    trial(test)


def test_a_tool_is_called_with_its_parameters_and_its_error_is_a_tools(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        async with Client(prepare(gateway)) as client:

            async def call(name: str, **arguments: Any) -> tuple[bool, str]:
                result = await client.call_tool(name, arguments)
                return bool(result.is_error), result.content[0].text  # type: ignore[union-attr]

            assert await call("hello__greet", who="Ada") == (False, '"Hello, Ada"')
            assert json.loads((await call("shop__add", a=1, b=2))[1]) == {"a": 1, "b": 2}
            assert await call("shop__now") == (False, '"nothing"')
            assert await call("bad__fail", how="x") == (True, "ValueError: no")
            for name in ("secret__f", "hello__nothing", "hello", "__"):
                is_error, said = await call(name)
                assert is_error and "no tool" in said, "what is not offered is not there"
        assert ("secret.f", b"", None) not in gateway.cluster.calls

    trial(test)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"host": "evil.example:PORT"},
        {"content_type": "text/plain", "referer": "http://evil.example/form"},
    ],
)
def test_the_loopback_rules_hold_for_agents_too(trial: Any, headers: dict[str, str]) -> None:
    async def test(gateway: Any) -> None:
        prepare(gateway)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        asked = {"content_type": "application/json", "accept": "application/json, text/event-stream", **headers}
        response = await gateway.request("POST", "/mcp", body, **asked)
        assert response.status in (403, 421)

    trial(test)
