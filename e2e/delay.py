"""A TCP proxy that holds back what it passes on: `python delay.py PORT TARGET_PORT SECONDS`.

It runs in the network of a pod, where Linux could do it itself only with a module that not every kernel has (netem).
"""

from __future__ import annotations

import asyncio
import sys


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Copy until one side closes, each piece later by so many seconds."""
    try:
        while piece := await reader.read(1 << 20):
            await asyncio.sleep(seconds)
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(port: int, target: int, seconds: float) -> None:
    """Listen for as long as the process lives."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pass_on(reader, back, seconds), pass_on(there, writer, 0.0))

    server = await asyncio.start_server(connected, "0.0.0.0", port)  # noqa: S104 - inside the pod's own network
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
