"""Take a code host's webhook for a push: `POST /webhook/push`.

Fields that are not named here are ignored; one that is missing or of another type is answered with 422 and its path.
"""

import msgspec

from motes import function


class Author(msgspec.Struct):
    name: str


class Commit(msgspec.Struct):
    id: str
    message: str
    author: Author


class Push(msgspec.Struct):
    ref: str
    commits: list[Commit] = []


class Told(msgspec.Struct):
    branch: str
    lines: list[str]


@function(timeout="5 s", idempotent=True)
def push(event: Push) -> Told:
    """One line for each commit, without those that are marked as chores."""
    lines = [
        f"{commit.id[:7]} {commit.message.partition(chr(10))[0]} ({commit.author.name})"
        for commit in event.commits
        if not commit.message.startswith("chore")
    ]
    return Told(event.ref.removeprefix("refs/heads/"), lines)
