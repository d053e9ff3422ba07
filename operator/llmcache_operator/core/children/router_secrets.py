"""The Secrets of a router: mounted as folders, never as environment or subPath, so that the kubelet refreshes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmcache_operator.api.router import RouterSpec
    from llmcache_operator.core.values import Json

# For the pod's group alone, which the kubelet makes fsGroup.
_MODE = 0o440


@dataclass(frozen=True, slots=True)
class MountedSecret:
    """Keys of a Secret as files in a folder, by file name, and the router's arguments that name them."""

    volume_name: str
    secret: str
    files: dict[str, str]
    args: tuple[str, ...]

    @property
    def volume(self) -> Json:
        """The volume. A key that the Secret lacks keeps the pod from starting, and its Events say which."""
        items = [{"key": key, "path": path} for path, key in self.files.items()]
        return {
            "name": self.volume_name,
            "secret": {"secretName": self.secret, "defaultMode": _MODE, "items": items},
        }

    @property
    def mount(self) -> Json:
        """Its mount in the router's container."""
        return {"name": self.volume_name, "mountPath": _folder(self.volume_name), "readOnly": True}


def secrets(router: RouterSpec) -> tuple[MountedSecret, ...]:
    """Return what a router mounts."""
    found = []
    if router.auth:
        keys, folder = router.auth.api_keys_secret_ref, _folder("api-keys")
        found.append(MountedSecret("api-keys", keys.name, {"keys": keys.key}, ("--api-keys", f"{folder}/keys")))
    if router.tls:
        folder = _folder("tls")
        args = ("--tls-cert", f"{folder}/tls.crt", "--tls-key", f"{folder}/tls.key")
        files = {"tls.crt": "tls.crt", "tls.key": "tls.key"}
        found.append(MountedSecret("tls", router.tls.secret_ref.name, files, args))
    return tuple(found)


def _folder(volume: str) -> str:
    return f"/llmcache/{volume}"
