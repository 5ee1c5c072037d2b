"""Every subject, in one place. Names of hosts, apps, workloads and users are single tokens (see `is_name`).

host.<host>.call.<app>.<workload>.<user> caller -> agent, request; NATS lets a user end it with its own name only
host.<host>.cancel                       caller -> agent, the 16-byte id of a call
host.<host>.more                         caller -> agent, items of a stream that were taken (motes.model.call)
host.<host>.ps                           caller -> agent, request
host.<host>.lease                        controller -> agent, a signed Lease
host.<host>.keeper                       controller -> agent, a signed Notice of where the keeper is
host.<host>.shut, shut                   controller -> agent, gateway: which callers are served no more, signed
host.<host>.inspect                      controller -> agent, request: load a bundle in a space and describe it
host.<host>.open                         gateway -> agent, request: a connection to a daemon (motes.router.tunnel)
host.<host>.stream.<word>                gateway -> agent, what goes through such connections; the word is its own
relay.<host>.stream.<word>               agent -> gateway, the same back
relay.<host>.call.<app>.<workload>       agent -> gateway, request: a call that a function on this host makes
relay.<host>.cancel, relay.<host>.more   agent -> gateway, as for a host; `more` of 0 items: what was on the way is lost
relay.<host>.await                       agent -> gateway, the ids of the calls that it waits for, one after the other;
                                         the reply is where their answers go, without the id
beat.<host>                              agent -> everybody, every 250 ms
report.<host>.state                      agent -> controller
report.<sender>.event                    agent or controller -> controller and whoever follows
report.<host>.log.<app>.<workload>       agent -> controller and whoever follows
report.<host>.usage                      agent -> controller, request: a signed Batch, for a signed Receipt
event.<sender>, log.<app>                controller -> the EVENTS and LOGS streams: what is kept of those
receipt.<host>                           controller -> the RECEIPTS stream
keeper.<sender>.<verb>                   anybody -> controller, request; the reply must lie in the sender's inbox
route.<app>                              controller -> routers: the app's routes have changed
gone.<host>                              controller -> routers: this host's connection broke; LEFT: for good
fn.<app>.<function>                      any NATS client -> gateway, request
fn.<app>.<function>.<user>               the same in the sender's own name
$SRV.PING, $SRV.INFO, $SRV.STATS         any NATS client -> gateway, the standard services protocol
_INBOX.<sender>.>                        replies
"""

from __future__ import annotations

from motes.model.names import is_name as is_name

LEFT = b"left"
"""In `gone.<host>`: it was stopped or removed."""
SHUT = "shut"


def call(host: str, app: str, workload: str, user: str) -> str:
    return f"host.{host}.call.{app}.{workload}.{user}"


def cancel(host: str) -> str:
    return f"host.{host}.cancel"


def more(host: str) -> str:
    return f"host.{host}.more"


def relayed_call(host: str, app: str, workload: str) -> str:
    return f"relay.{host}.call.{app}.{workload}"


def relayed_cancel(host: str) -> str:
    return f"relay.{host}.cancel"


def relayed_more(host: str) -> str:
    return f"relay.{host}.more"


def relayed_await(host: str) -> str:
    return f"relay.{host}.await"


def ps(host: str) -> str:
    return f"host.{host}.ps"


def lease(host: str) -> str:
    return f"host.{host}.lease"


def notice(host: str) -> str:
    return f"host.{host}.keeper"


def shut(host: str) -> str:
    return f"host.{host}.shut"


def inspect(host: str) -> str:
    return f"host.{host}.inspect"


def open_stream(host: str) -> str:
    return f"host.{host}.open"


def stream(host: str, word: str) -> str:
    return f"host.{host}.stream.{word}"


def stream_back(host: str, word: str) -> str:
    return f"relay.{host}.stream.{word}"


def relayed(host: str) -> tuple[str, ...]:
    """What a gateway hears of calls that a host has sent on."""
    return relayed_call(host, "*", "*"), relayed_cancel(host), relayed_more(host), relayed_await(host)


def for_host(host: str) -> tuple[str, ...]:
    """What an agent hears, but for its leases and streams."""
    return f"host.{host}.call.>", cancel(host), more(host), ps(host), inspect(host)


def beat(host: str) -> str:
    return f"beat.{host}"


def state(host: str) -> str:
    return f"report.{host}.state"


def event(sender: str) -> str:
    return f"report.{sender}.event"


def log(host: str, app: str, workload: str) -> str:
    return f"report.{host}.log.{app}.{workload}"


def usage(host: str) -> str:
    return f"report.{host}.usage"


def kept_receipt(host: str) -> str:
    return f"receipt.{host}"


def kept_event(sender: str) -> str:
    return f"event.{sender}"


def kept_log(app: str) -> str:
    return f"log.{app}"


def keeper(sender: str, verb: str) -> str:
    return f"keeper.{sender}.{verb}"


def route(app: str) -> str:
    return f"route.{app}"


def gone(host: str) -> str:
    return f"gone.{host}"


def inbox(sender: str) -> str:
    return f"_INBOX.{sender}"
