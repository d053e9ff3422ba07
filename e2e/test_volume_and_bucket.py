"""A volume and a bucket behind the servers of two engines: what is found in them, and what happens when one fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.bench.measure import prompt
from e2e.bucket import Bucket
from e2e.kube import Kube, wait_until
from e2e.services import CLAIM, Answer, Service, manifest
from e2e.valkey import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.cluster.handle import Handle

WORDS = 600
"""Some 2,600 tokens."""
VOLUME_BYTES, OLD_BYTES = 64 << 20, 1 << 20

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]


@dataclass(frozen=True)
class Stores:
    """A service with a volume and a bucket."""

    service: Service
    bucket: Bucket
    volume: Path

    def compute(self, engine: str, text: str) -> Answer:
        """Let one engine compute a prompt, and wait until its chunks are in the bucket, which LMCache fills last."""
        before = self.bucket.objects()
        answer = self.service.ask_engine(engine, text)
        assert answer.tokens.computed == answer.tokens.total
        chunks = answer.tokens.total // CHUNK
        wait_until("the prefix is in the bucket", lambda: self.bucket.objects() - before >= chunks, seconds=60)
        return answer

    def find(self, engine: str, text: str, first: Answer) -> None:
        """Let another engine answer the same, from what the first one stored."""
        again = self.service.ask_engine(engine, text)
        assert again.tokens.server >= 0.9 * (first.tokens.total // CHUNK * CHUNK)
        assert again.is_like(first)

    @contextlib.contextmanager
    def read_only_volume(self) -> Iterator[None]:
        """Let nobody put a file into the folder; servers aren't root."""
        folder = self.volume / "lmcache"
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(mode)


@pytest.fixture(scope="module")
def stores(cluster: Handle, kube: Kube, refs: dict[str, str]) -> Iterator[Stores]:
    """Provide two engines with a server beside each, a volume and a bucket."""
    if cluster.kind != "local":
        pytest.skip("the bucket's program and the volume's folder are on this machine: --cluster=local")
    bucket = Bucket(Kube(kube.kubeconfig, f"bucket-{uuid.uuid4().hex[:8]}"))
    kube.run("create", "namespace", bucket.kube.namespace)
    try:
        bucket.make(refs["router"], kube)
        kube.apply(CLAIM)
        with full_volume(folder_of(kube, CLAIM["metadata"]["name"])) as volume:
            l2 = {"fileSystem": {"claimName": CLAIM["metadata"]["name"]}, "s3": bucket.spec}
            cache = {"topology": "PerEngine", "l2": l2, "cpu": "50m"}
            kube.apply(manifest("stores", engine={"replicas": 2}, cache=cache))
            service = Service(kube, "stores")
            service.wait("Ready", "True")
            yield Stores(service, bucket, volume)
            kube.run("delete", "llmcs", service.name)
    finally:
        kube.run("delete", "namespace", bucket.kube.namespace, "--timeout=60s", seconds=65)


def folder_of(kube: Kube, claim: str) -> Path:
    """Return where a claim's volume is on this machine."""

    def bound() -> str:
        return str((kube.get("pvc", claim) or {})["spec"].get("volumeName", ""))

    volume = kube.get("pv", wait_until(f"pvc/{claim} is bound", bound, seconds=30)) or {}
    return Path(volume["spec"]["hostPath"]["path"])


@contextlib.contextmanager
def full_volume(folder: Path) -> Iterator[Path]:
    """Lay a file system over a volume that chunks from long ago fill to the last block: not even a folder fits in."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        image = Path(scratch) / "image"
        with image.open("wb") as file:
            file.truncate(VOLUME_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, timeout=60)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, timeout=60)
        try:
            chunks = folder / "lmcache"
            chunks.mkdir()
            for at in range(VOLUME_BYTES // OLD_BYTES + 1):
                fill(chunks / f"{at}.data", OLD_BYTES)
            for path in (folder, chunks):
                path.chmod(0o777)
            yield folder
        finally:
            # Pods that are still ending keep it until they are gone.
            subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def fill(path: Path, size: int) -> None:
    """Write a file that was used last in 1970, or as much of it as there is room for."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for _ in range(size // 1024):
            file.write(bytes(1024))
    with contextlib.suppress(FileNotFoundError):
        os.utime(path, (0, 0))


def test_servers_start_on_a_full_volume_and_room_is_kept_in_it(stores: Stores) -> None:
    def swept() -> bool:
        told = shutil.disk_usage(stores.volume)
        return 0.1 <= told.free / (told.used + told.free) < 0.2

    wait_until("a tenth of the volume is free, and no more than has to be", swept, seconds=60)


def test_what_one_engine_computed_is_in_both_and_found_by_the_other(stores: Stores) -> None:
    one, other = stores.service.engines()
    text = prompt(WORDS)
    first = stores.compute(one, text)
    stores.find(other, text, first)

    assert len(list((stores.volume / "lmcache").glob("*@*.data"))) >= first.tokens.total // CHUNK
    assert stores.service.status()["cache"]["layout"] == "PerEngine, L2: fileSystem, s3"
    stores.service.wait("L2Ready", "True", seconds=60)


def test_a_volume_that_takes_nothing_is_named_while_the_bucket_goes_on(stores: Stores) -> None:
    one, other = stores.service.engines()
    text = prompt(WORDS)
    with stores.read_only_volume():
        first = stores.compute(one, text)
        named = stores.service.wait("L2Ready", "False", "L2NotStoring", seconds=60)
        stores.find(other, text, first)

    assert f"in fileSystem: {one}/cache-server lost the last " in named["message"]
    assert stores.service.condition("Ready")["status"] == "True"
    stores.compute(one, prompt(WORDS))
    stores.service.wait("L2Ready", "True", seconds=60)


def test_a_bucket_that_lmcache_gave_up_is_named_and_has_everything_after_a_restart(stores: Stores) -> None:
    old = stores.service.engines()
    text = prompt(WORDS)
    with stores.read_only_volume():
        first = stores.compute(old[0], text)
    stores.bucket.stop()

    def given_up() -> bool:
        answer = stores.service.ask_engine(old[0], prompt(WORDS))
        assert answer.tokens.computed == answer.tokens.total
        return stores.service.condition("L2Ready").get("reason") == "L2GivenUp"

    wait_until("L2Ready says L2GivenUp", given_up, seconds=120)
    assert f"delete pods like {old[0]} one by one" in stores.service.condition("L2Ready")["message"]
    assert stores.service.condition("Ready")["status"] == "True"

    stores.bucket.start()
    stores.service.kube.run("delete", "pod", *old, "--grace-period=5", "--wait=false")
    engines = stores.service.renewed(old)
    stores.find(engines[1], text, first)
    stores.service.wait("L2Ready", "True", seconds=60)
