"""What an app's functions take and give, as a page and as an OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest


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
