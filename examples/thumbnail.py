# /// script
# dependencies = ["pillow"]
# ///
"""Make a small picture of a large one. A picture is a stranger's bytes: here a decoder's mistake stays in the space."""

import io

from PIL import Image

from motes import function

SIDE = 128
LARGEST_PIXELS = 50_000_000


@function(memory="512 MiB", timeout="20 s", idempotent=True)
def shrink(picture: bytes) -> bytes:
    """A PNG of at most SIDE pixels in width and height."""
    Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS
    with Image.open(io.BytesIO(picture)) as image:
        image.thumbnail((SIDE, SIDE))
        small = io.BytesIO()
        image.convert("RGB").save(small, "PNG")
    return small.getvalue()
