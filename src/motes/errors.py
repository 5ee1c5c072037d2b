"""Every error a user can meet, by who must act.

    MotesError
    ├── CallerError            the caller sent something that cannot be done
    │   ├── NotFound           no such app, workload or host
    │   ├── BadInput           the body does not fit the function's parameters
    │   ├── TooLarge           a payload or bundle over its limit
    │   ├── TimedOut           the time budget ran out
    │   ├── Cancelled          the caller gave up
    │   └── Refused            not allowed to do this
    ├── OwnerError             the app's owner must act
    │   ├── FunctionError      the function raised
    │   ├── BadResult          the function's result cannot be sent
    │   ├── LimitExceeded      over memory, time, processes, files or output
    │   ├── Exited             the process ended in the middle of a call
    │   ├── LoadFailed         the release cannot be loaded
    │   ├── BadBundle          nothing here that can be deployed
    │   └── NoPackages         the packages that the app asks for cannot be had
    ├── HostError              a host or its owner must act
    │   ├── HostLost           the connection to the host broke after the call was sent
    │   ├── SpaceFailed        the process space could not be made
    │   ├── Overloaded         every queue is full
    │   └── NoRoom             no host offers what the workload needs
    └── EngineError            the cluster must be mended
        ├── Unavailable        no cluster, no NATS, or nobody who answers
        └── Untrusted          a signature or a hash does not hold

On the wire an error is its `code`, `message` and `detail`; `from_wire` makes the exception again. docs/ERRORS.md says
of each what to do.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MotesError(Exception):
    """An error with a message for people.

    `detail` holds plain data for programs: numbers, strings, lists and dicts only.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, /, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def to_wire(self) -> dict[str, Any]:
        """The error as plain data: `{"code", "message", "detail"}`."""
        return {"code": self.code, "message": self.message, "detail": self.detail}


class CallerError(MotesError):
    """The caller sent something that cannot be done."""

    code = "caller"
    http_status = 400
    exit_code = 3


class NotFound(CallerError):
    """No such app, workload or host."""

    code = "not_found"
    http_status = 404
    exit_code = 4


class BadInput(CallerError):
    """The body does not fit the parameters; `detail["path"]` names the wrong field, as in `$.name`."""

    code = "bad_input"
    http_status = 422


class TooLarge(CallerError):
    """Over a size limit; `detail["limit_bytes"]` is the limit."""

    code = "too_large"
    http_status = 413


class TimedOut(CallerError):
    """The time budget ran out before there was a result; `detail["timeout_s"]`."""

    code = "timed_out"
    http_status = 504
    exit_code = 5


class Cancelled(CallerError):
    """The caller gave up."""

    code = "cancelled"
    http_status = 499


class Refused(CallerError):
    """Not allowed."""

    code = "refused"
    http_status = 403


class OwnerError(MotesError):
    """The app's owner must act."""

    code = "owner"
    exit_code = 6


class FunctionError(OwnerError):
    """The function raised; `detail` has `type` and `traceback` (the app's own frames)."""

    code = "function_error"


class BadResult(OwnerError):
    """The function's result cannot be sent."""

    code = "bad_result"


class LimitExceeded(OwnerError):
    """Over a limit; `detail["reason"]` is the instance's end reason, for example `memory_limit`."""

    code = "limit_exceeded"


class Exited(OwnerError):
    """The instance's process ended in the middle of a call; `detail["reason"]`."""

    code = "exited"


class LoadFailed(OwnerError):
    """The release cannot be loaded or started; `detail["traceback"]` or `detail["log"]` shows why."""

    code = "load_failed"
    http_status = 422


class BadBundle(OwnerError):
    """Nothing here that can be deployed."""

    code = "bad_bundle"
    http_status = 422


class NoPackages(OwnerError):
    """The packages that the app asks for cannot be had: unknown, without a wheel, or in conflict."""

    code = "no_packages"
    http_status = 422


class HostError(MotesError):
    """A host or its owner must act."""

    code = "host"
    http_status = 503
    exit_code = 7


class HostLost(HostError):
    """The host was lost, or its owner took it back, after the call was sent: whether it ran is unknown."""

    code = "host_lost"
    http_status = 502


class SpaceFailed(HostError):
    """The process space could not be made on that host."""

    code = "space_failed"


class Overloaded(HostError):
    """Every queue that could take the call is full; try again after `detail["retry_after_s"]`."""

    code = "overloaded"


class NoRoom(HostError):
    """No host offers what the workload needs."""

    code = "no_room"


class EngineError(MotesError):
    """The cluster must be mended."""

    code = "engine"
    http_status = 503
    exit_code = 8


class Unavailable(EngineError):
    """No cluster, no NATS, or nobody who answers."""

    code = "unavailable"


class Untrusted(EngineError):
    """A signature or a hash does not hold."""

    code = "untrusted"
    http_status = 403


class RemoteTraceback(Exception):
    """Where it happened inside the app, as text: the cause of an error that brought a traceback."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def _tree(kind: type[MotesError]) -> list[type[MotesError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _tree(child))]


_BY_CODE = {kind.code: kind for kind in _tree(MotesError)}


def from_wire(data: dict[str, Any]) -> MotesError:
    """The exception that `data` (`{"code", "message", "detail"}`) stands for; an unknown code gives MotesError.

    Whoever sent it may have put anything in. Python shows the app's own traceback before the caller's.
    """
    kind = _BY_CODE.get(str(data.get("code")), MotesError)
    detail = data.get("detail")
    named = {name: each for name, each in detail.items() if isinstance(name, str)} if isinstance(detail, dict) else {}
    error = kind(str(data.get("message", "")), **named)
    if text := error.detail.get("traceback"):
        error.__cause__ = RemoteTraceback(text)
    return error
