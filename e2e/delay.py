"""A TCP proxy that passes on later what clients send: `python delay.py PORT TARGET_PORT SECONDS`.

It prints a line once it listens. It runs in the network of a pod, where Linux could do it itself only with a module
that not every kernel has (netem).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_PIECE = 1 << 16


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Copy until a side closes, every piece later by so many seconds: the rate stays what it was."""
    clock = asyncio.get_running_loop().time
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        try:
            while piece := await reader.read(_PIECE):
                pieces.put_nowait((clock() + seconds, piece))
        finally:
            pieces.put_nowait((0.0, b""))

    taking = asyncio.ensure_future(take())
    try:
        while (due := await pieces.get())[1]:
            await asyncio.sleep(due[0] - clock())
            writer.write(due[1])
            await writer.drain()
    finally:
        taking.cancel()
        writer.close()


async def serve(port: int, target: int, seconds: float) -> None:
    """Listen for as long as the process lives."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            there, back = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pass_on(reader, back, seconds), pass_on(there, writer, 0.0))

    server = await asyncio.start_server(connected, "0.0.0.0", port)  # noqa: S104 - inside the pod's own network
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
