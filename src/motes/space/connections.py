"""Whether anybody is connected to a port of a space's own network, as the kernel's table of it says."""

from __future__ import annotations

MOST_BYTES = 256 * 1024
"""Of the table: what is in the space may fill it, and who reads it is not to be held up. About 1,700 rows."""
_OPEN = (b"01", b"04", b"05")
"""ESTABLISHED, FIN_WAIT1 and FIN_WAIT2: a client may be done with asking, and still want the answer."""
_NOBODYS = b"0"
"""The inode of an end that was closed."""


def has_connections(pid: int, port: int) -> bool:
    """Over IPv4, in the network in which the process is; False when that is gone, True when there are too many rows.

    The clients' ends are looked at: the other ends stay as long as the server likes. It takes from one to 20
    milliseconds of a processor: the kernel looks through all connections of the machine for those of this network.
    """
    try:
        with open(f"/proc/{pid}/net/tcp", "rb") as file:
            table = file.read(MOST_BYTES)
    except OSError:
        return False
    wanted = b":%04X" % port
    # Number, own address, other end's, state, queues, timer, retransmissions, user, timeout, inode: see proc_net_tcp.
    rows = (line.split(None, 10) for line in table.splitlines()[1:])
    return len(table) == MOST_BYTES or any(
        len(row) > 9 and row[2].endswith(wanted) and row[3] in _OPEN and row[9] != _NOBODYS for row in rows
    )
