"""A fake Kubernetes API: lists and watches the EndpointSlices of a test."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"


@dataclass
class KubeApi:
    """Serves one collection on loopback: `put` and `delete` change it, `end_watches` and `expire` end its watches."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int = 1
    lists: int = 0
    tokens: list[str] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)
    failing: int = 0
    watches: set[asyncio.StreamWriter] = field(default_factory=set)
    url: str = ""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop."""
        self._server.close()
        self.end_watches()
        await asyncio.sleep(0)

    def put(self, item: dict[str, Any]) -> None:
        """Create or replace an object."""
        self.version += 1
        name = item["metadata"]["name"]
        kind = "MODIFIED" if name in self.objects else "ADDED"
        item["metadata"]["resourceVersion"] = str(self.version)
        self.objects[name] = item
        self._send({"type": kind, "object": item})

    def delete(self, name: str) -> None:
        """Delete an object."""
        self.version += 1
        item = self.objects.pop(name)
        item["metadata"]["resourceVersion"] = str(self.version)
        self._send({"type": "DELETED", "object": item})

    def bookmark(self) -> None:
        """Send a bookmark."""
        self.version += 1
        self._send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}})

    def expire(self) -> None:
        """Tell watchers that their version is too old."""
        self._send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})

    def end_watches(self) -> None:
        """End all watches."""
        for writer in tuple(self.watches):
            writer.close()
        self.watches.clear()

    def _send(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        for writer in self.watches:
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                if await self._answer(head[0].split()[1], headers, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        """Answer a request; True when the connection now belongs to a watch."""
        url = urlsplit(target)
        query = parse_qs(url.query)
        self.tokens.append(headers.get("authorization", ""))
        self.selectors.append(query["labelSelector"][0])
        if self.failing or url.path != PATH:
            self.failing = max(0, self.failing - 1)
            writer.write(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
            return False
        if "watch" in query:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            self.watches.add(writer)
            return True
        self.lists += 1
        body = {"metadata": {"resourceVersion": str(self.version)}, "items": list(self.objects.values())}
        data = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        return False
