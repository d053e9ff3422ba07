"""The router as clients meet it: with keys and a certificate from Secrets, and as a gateway's endpoint picker."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.kube import Kube
    from e2e.services import Service

pytestmark = pytest.mark.timeout(400)
ZERO = {"replicas": 0}
EDGE = {"auth": {"apiKeysSecretRef": {"name": "edge-keys"}}, "tls": {"secretRef": {"name": "edge-tls"}}}


def certificate(*names: str) -> tuple[str, str]:
    """Make a self-signed certificate for names and 127.0.0.1; gives it and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    alternatives = x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), address])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(alternatives, critical=False)
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


def secret(name: str, **values: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def tls_secret(name: str, crt: str, key: str) -> dict[str, object]:
    return secret(name) | {"type": "kubernetes.io/tls", "stringData": {"tls.crt": crt, "tls.key": key}}


def test_keys_and_certificate_come_from_secrets_and_follow_them(service: Callable[..., Service], kube: Kube) -> None:
    crt, key = certificate("edge-router")
    kube.apply(secret("edge-keys", keys="# team\nfirst\n"), tls_secret("edge-tls", crt, key))
    edge = service("edge", engine=ZERO, router=EDGE)
    edge.wait("Ready", "True", seconds=200)
    assert edge.status()["url"] == f"https://edge-router.{kube.namespace}.svc"

    with kube.forward("service/edge-router", 443) as url:
        base = url.replace("http://", "https://")

        def answer(given: str, trusted: str = crt) -> int:
            context = ssl.create_default_context(cadata=trusted)
            with httpx.Client(base_url=base, verify=context, trust_env=False, timeout=10) as client:
                return client.get("/v1/models", headers={"authorization": f"Bearer {given}"}).status_code

        assert (answer("wrong"), answer("first")) == (401, 503), "there is no engine to list models"

        other, other_key = certificate("edge-router")
        kube.apply(secret("edge-keys", keys="second\n"), tls_secret("edge-tls", other, other_key))
        [pod] = kube.pods("edge", "router")
        # The kubelet looks at a pod's Secrets once a minute, and when the pod changes.
        kube.run("annotate", "pod", pod["metadata"]["name"], "looked-at=now")

        def followed() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (answer("first", other), answer("second", other)) == (401, 503)
            return False

        wait_until("new keys and certificate are in force", followed, seconds=150)
    [same] = kube.pods("edge", "router")
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    assert not same["status"]["containerStatuses"][0]["restartCount"]


def test_a_proxy_becomes_a_picker_and_back(service: Callable[..., Service], kube: Kube) -> None:
    one = service("behind", engine=ZERO, router={"type": "EndpointPicker"})
    one.wait("Ready", "True", seconds=200)
    assert "url" not in one.status()
    assert f"behind-router.{kube.namespace}.svc:9002" in one.condition("RouterReady")["message"]
    [pod] = kube.pods("behind", "router")
    name = pod["metadata"]["name"]
    assert json.loads(kube.raw(name, 9090, "/debug/engines")) == []
    assert "llmcache_router_client_connections 0.0" in kube.raw(name, 9090, "/metrics")

    one.patch({"router": {"type": "Proxy"}})

    one.wait("Ready", "True", seconds=200)
    assert one.status()["url"] == f"http://behind-router.{kube.namespace}.svc"
