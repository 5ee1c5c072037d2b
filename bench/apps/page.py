"""An ordinary small web app of the standard library, which makes a page for each request: `python page.py PORT`."""

import asyncio
import html
import sys
from email.parser import BytesParser

ROW = "<tr><td>{number}</td><td>{name}</td><td>{agent}</td></tr>\n"


def page(head: bytes) -> bytes:
    """A table of twenty rows, about 1 KiB."""
    request, _, headers = head.partition(b"\r\n")
    agent = html.escape(BytesParser().parsebytes(headers).get("User-Agent", "nobody"))
    path = html.escape(request.split()[1].decode())
    rows = (ROW.format(number=number, name=f"{path}{number}", agent=agent) for number in range(20))
    return f"<!doctype html><title>{path}</title><table>\n{''.join(rows)}</table>\n".encode()


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = page(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve_client, "127.0.0.1", int(sys.argv[1]))
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
