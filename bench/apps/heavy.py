# /// script
# dependencies = ["fastapi", "httpx", "pydantic"]
# ///
"""An app that imports much."""

import fastapi  # noqa: F401
import httpx  # noqa: F401
from pydantic import BaseModel

from motes import function


class Model(BaseModel):
    x: int


@function(idle="0.05 s", memory="256 MiB")
def heavy(text: str) -> str:
    return text
