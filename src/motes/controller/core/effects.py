"""What the controller's core wants done. The shell (`controller/service.py`) and the simulator carry these out."""

from __future__ import annotations

import msgspec

from motes.model.host import Lease
from motes.model.instance import EndReason, StartReason
from motes.model.routes import Routes


class Give(msgspec.Struct, frozen=True):
    """Sign the lease and send it to its host."""

    lease: Lease


class Publish(msgspec.Struct, frozen=True):
    """Tell the routers."""

    routes: Routes


class Tell(msgspec.Struct, frozen=True):
    """Publish an event; the shell adds the time."""

    what: str
    reason: StartReason | EndReason
    host: str = ""
    app: str = ""
    release: str = ""
    workload: str = ""
    pid: int = 0
    detail: str = ""


Effect = Give | Publish | Tell
