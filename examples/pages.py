"""A pipeline of two functions over a folder of HTML pages: the words of each page, then what makes each one special.

The pages are read here and parsed there: a function sees no file of this machine and has no network. The second
function calls the first for each page, many at a time.
"""

import html.parser
import re
import sys
from collections import Counter
from pathlib import Path

from motes import function


class Text(html.parser.HTMLParser):
    """The words of a page, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.words: Counter[str] = Counter()
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.update(re.findall(r"[a-z]{3,}", data.lower()))


@function(idempotent=True)
def words(page: str) -> dict[str, int]:
    """How often each word stands in a page."""
    text = Text()
    text.feed(page)
    return dict(text.words)


@function(idempotent=True, calls=[words])
def special(pages: dict[str, str], most: int = 3) -> dict[str, list[str]]:
    """Of each page the words that it has more of than all pages together would suggest."""
    counted = dict(zip(pages, words.map(pages.values()), strict=True))
    everywhere = sum(map(Counter, counted.values()), Counter())
    return {
        name: sorted(page, key=lambda word: (-page[word] / everywhere[word], -page[word], word))[:most]
        for name, page in counted.items()
    }


def main(folder: Path) -> None:
    pages = {file.name: file.read_text(errors="replace") for file in sorted(folder.glob("*.html"))}
    for name, found in special.remote(pages).items():
        print(name, *found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
