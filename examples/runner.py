"""Run Python that an agent wrote: each snippet in a fresh process without network, files or neighbours, with limits."""

import ast
import contextlib
import io
import traceback

import msgspec

from motes import function


class Ran(msgspec.Struct):
    """What came of a snippet: what it printed, the value of its last line, and its error."""

    printed: str
    value: str | None = None
    error: str | None = None


@function(reuse="call", memory="128 MiB", timeout="10 s", tool=True)
def run(code: str) -> Ran:
    """Run a snippet of Python: what it printed, and the value of its last line.

    Over a limit, or when it ends the process, the caller gets a typed error instead.
    """
    printed = io.StringIO()
    names: dict[str, object] = {"__name__": "__main__"}
    try:
        with contextlib.redirect_stdout(printed):
            value = _value_of(code, names)
    except MemoryError:
        raise  # From here it is the caller's LimitExceeded.
    except Exception:
        return Ran(printed.getvalue(), error=traceback.format_exc(limit=-1))
    return Ran(printed.getvalue(), value)


def _value_of(code: str, names: dict[str, object]) -> str | None:
    """Run the snippet; the value of its last line where that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<snippet>", "exec"), names)
    if last is None:
        return None
    value = eval(compile(ast.Expression(last.value), "<snippet>", "eval"), names)
    return None if value is None else repr(value)
