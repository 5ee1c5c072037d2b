"""An app's page: what it can be asked, with a line to try each function. No script, and nothing from elsewhere."""

from __future__ import annotations

import html
import json

from motes.model.routes import Route, Routes
from motes.model.signature import curl

HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    # Names and schemas are the app's own words: escaped below, and should that fail, nothing of them may run.
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]


def app_page(routes: Routes, server: str) -> bytes:
    """The page as HTML; `server` is the gateway's address, as `http://localhost:8080`."""
    parts = [_workload(routes.app, name, route, server) for name, route in sorted(routes.workloads.items())]
    return _PAGE.format(app=html.escape(routes.app), parts="\n".join(parts)).encode()


def _workload(app: str, name: str, route: Route, server: str) -> str:
    if route.kind != "function":
        address = server.replace("//localhost", f"//{app}.localhost")
        return f"<h2>{html.escape(name)}</h2>\n<p>a daemon at <code>{html.escape(address)}/</code></p>"
    line = curl(f"{server}/{app}/{name}", route)
    taken = _schema("takes", route.parameters) if route.parameter_names else "<p>takes nothing</p>"
    return f"<h2>{html.escape(name)}</h2>\n<pre>{html.escape(line)}</pre>\n{taken}\n{_schema('gives', route.result)}"


def _schema(word: str, schema: object) -> str:
    return f"<p>{word}</p><pre>{html.escape(json.dumps(schema, indent=2))}</pre>"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{app}</title>
<style>body {{ font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 48em; padding: 0 1em }}
pre {{ background: #8882; padding: .6em; overflow-x: auto }}</style>
<h1>{app}</h1>
<p>The same for programs: <a href="openapi.json">openapi.json</a></p>
{parts}
</html>
"""
