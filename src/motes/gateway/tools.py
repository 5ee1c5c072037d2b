"""`/mcp`: functions that are declared as tools, for agents, by the Model Context Protocol (the SDK is the extra `mcp`).

Nothing is remembered between two requests. A tool's name is `app__function`; its input is an object with the function's
parameters, its output the result as JSON text, and an error is a tool error with the words that a caller gets.
https://modelcontextprotocol.io
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from motes.errors import MotesError
from motes.gateway.backend import Backend
from motes.gateway.call_request import Message, Receive
from motes.model.keeper import Tool
from motes.model.release import PAYLOAD_LIMIT_BYTES

_BETWEEN = "__"
_INSTRUCTIONS = (
    "Functions that this machine's owner has deployed. Each runs in a process space of its own, with limits."
)


class Tools:
    """The endpoint. `start` it on the loop that serves."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        server: Server[Any] = Server(
            "motes", instructions=_INSTRUCTIONS, on_list_tools=self._list, on_call_tool=self._call
        )
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=PAYLOAD_LIMIT_BYTES
        )
        self._is_up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def answer(self, scope: Message, receive: Receive, send: Any) -> None:
        """One request."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())
        await self._is_up.wait()
        await self._manager.handle_request(scope, receive, send)

    async def _run(self) -> None:
        async with self._manager.run():
            self._is_up.set()
            await asyncio.Event().wait()

    async def _list(self, context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in await self._backend.tools()])

    async def _call(self, context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        app, _, function = params.name.partition(_BETWEEN)
        try:
            tool = next(
                (each for each in await self._backend.tools() if each.app == app and each.name == function), None
            )
            if tool is None:
                return _said(f"there is no tool {params.name[:200]!r}", is_error=True)
            body = _body(tool, params.arguments or {})
            return _said((await self._backend.call_bytes(app, function, body)).decode(), is_error=False)
        except MotesError as error:
            return _said(error.message, is_error=True)


def _said(text: str, is_error: bool) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)


def _described(tool: Tool) -> types.Tool:
    return types.Tool(name=f"{tool.app}{_BETWEEN}{tool.name}", description=tool.description, input_schema=_schema(tool))


def _schema(tool: Tool) -> dict[str, Any]:
    """Of the object that holds the parameters by name."""
    if len(tool.parameter_names) != 1:
        return tool.parameters if tool.parameter_names else {"type": "object", "properties": {}}
    (name,) = tool.parameter_names
    definitions = tool.parameters.get("$defs", {})
    value = {key: each for key, each in tool.parameters.items() if key != "$defs"}
    if definitions and "title" in value and value["title"] in definitions:
        value = {"$ref": f"#/$defs/{value['title']}"}
    schema = {"type": "object", "properties": {name: value}, "additionalProperties": False}
    return {**schema, "$defs": definitions} if definitions else schema


def _body(tool: Tool, arguments: dict[str, Any]) -> bytes:
    """As callers send it: the one parameter's value, or all of them by name."""
    if len(tool.parameter_names) != 1:
        return msgspec.json.encode(arguments) if tool.parameter_names or arguments else b""
    (name,) = tool.parameter_names
    if set(arguments) - {name}:
        # The function's own check names what is wrong.
        return msgspec.json.encode(arguments)
    return msgspec.json.encode(arguments[name]) if name in arguments else b""
