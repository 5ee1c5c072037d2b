"""What an app's functions take and give, as a page and as an OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest

from motes.gateway.openapi import openapi
from motes.model.routes import Route, Routes


def test_the_openapi_document_has_each_function_with_what_it_takes_and_gives(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("GET", "/hello/openapi.json")
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        document = response.json()
        assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "hello")
        assert document["servers"] == [{"url": f"http://localhost:{gateway.port}"}]
        operation = document["paths"]["/hello/greet"]["post"]
        taken = operation["requestBody"]["content"]["application/json"]["schema"]
        given = operation["responses"]["200"]["content"]["application/json"]["schema"]
        shared = document["components"]["schemas"]
        # Definitions belong to the document, and two functions' of one name do not meet.
        assert taken == {"$ref": "#/components/schemas/greet.Who"}
        assert shared["greet.Who"]["type"] == "string"
        assert given == {"type": "array", "items": {"$ref": "#/components/schemas/greet.Line"}}
        assert shared["greet.Line"] == {"type": "string"}

    trial(test)


def test_the_document_says_in_which_ways_a_body_may_be_written_and_which_headers_are_heard() -> None:
    text, data = {"type": "string"}, {"type": "string", "contentEncoding": "base64"}
    plain = Route("function", parameters=text, parameter_names=("a",), result=data)
    raw = Route("function", parameters=data, parameter_names=("a",), result=text)
    several = Route(
        "function", parameters={"type": "object", "properties": {"a": data, "b": data}}, parameter_names=("a", "b")
    )
    stream = Route("function", result=data, streams=True)
    routes = Routes("app", 1, {"plain": plain, "raw": raw, "several": several, "stream": stream})
    document = openapi(routes, "http://localhost:8080")
    found = {path.rpartition("/")[2]: each["post"] for path, each in document["paths"].items()}
    both, bytes_too = ["application/json", "application/msgpack"], ["application/octet-stream"]
    assert list(found["plain"]["requestBody"]["content"]) == both
    assert list(found["plain"]["responses"]["200"]["content"]) == both + bytes_too
    assert list(found["raw"]["requestBody"]["content"]) == both + bytes_too
    assert list(found["raw"]["responses"]["200"]["content"]) == both
    assert list(found["several"]["requestBody"]["content"]) == both
    assert list(found["stream"]["responses"]["200"]["content"]) == ["text/event-stream", "application/x-ndjson", *both]
    parameters = document["components"]["parameters"]
    for operation in found.values():
        names = [each["$ref"].removeprefix("#/components/parameters/") for each in operation["parameters"]]
        assert [parameters[name]["name"] for name in names] == ["motes-timeout", "motes-caller"]
    assert all(each["in"] == "header" and not each.get("required") for each in parameters.values())


def test_the_page_shows_how_to_call_and_nothing_of_the_app_runs_in_it(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("GET", "/hello/")
        page = response.body.decode()
        assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f"curl http://localhost:{gateway.port}/hello/greet -d" in page and "openapi.json" in page
        assert "<script" not in page and "&lt;script&gt;" in page
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"

    trial(test)


def test_a_daemon_is_on_the_page_and_not_in_the_document(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        assert f"http://web.localhost:{gateway.port}/" in (await gateway.request("GET", "/web/")).body.decode()
        assert (await gateway.request("GET", "/web/openapi.json")).json()["paths"] == {}

    trial(test)


@pytest.mark.parametrize("page", ["", "openapi.json"])
def test_the_pages_keep_the_rules_of_every_request(trial: Any, page: str) -> None:
    async def test(gateway: Any) -> None:
        assert (await gateway.request("GET", f"/nothere/{page}")).status == 404
        assert (await gateway.request("GET", f"/NOT%20A%20NAME/{page}")).status == 404
        assert (await gateway.request("POST", f"/hello/{page}")).headers["allow"] == "GET, HEAD"
        assert (await gateway.request("GET", f"/hello/{page}", host="evil.example")).status >= 400
        assert (await gateway.request("GET", f"/hello/{page}", origin="http://evil.example")).status == 403

    trial(test)
