"""The cluster's certificate authority, its certificates and the kubeconfigs that carry them.

Names of users and groups: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

import base64
import datetime as dt
import ipaddress
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.layout import Cluster

_LIFETIME = dt.timedelta(days=365)
_LEEWAY = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """Who a client is to the API server: a user in groups."""

    user: str
    groups: tuple[str, ...] = ()


def clients(cluster: Cluster) -> dict[str, Identity]:
    """Return the kubeconfigs that a cluster has, by name: each component gets the rights of its own role only."""
    return {
        "admin": Identity("kubernetes-admin", ("system:masters",)),
        "kube-controller-manager": Identity("system:kube-controller-manager"),
        "kube-scheduler": Identity("system:kube-scheduler"),
        "kube-proxy": Identity("system:kube-proxy"),
        "kubelet": Identity(f"system:node:{cluster.name}", ("system:nodes",)),
        "coredns": Identity("system:coredns"),
    }


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """PEM, X.509."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """PEM, PKCS 8, unencrypted."""
        return _private_pem(self.key)


def ensure(cluster: Cluster) -> None:
    """Write keys, certificates and kubeconfigs, unless a run before has."""
    folder = cluster.pki("ca.crt").parent
    if folder.exists():
        return
    scratch = folder.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    authority = _authority(cluster)
    (scratch / "ca.crt").write_bytes(authority.certificate_pem())
    _write(scratch, "serving", _serving(cluster, authority))
    _write(scratch, "apiserver-kubelet", _client(authority, Identity("kube-apiserver", ("system:masters",))))
    _write_service_account_keys(scratch)
    for name, identity in clients(cluster).items():
        kubeconfig = _kubeconfig(cluster, authority, identity)
        (scratch / f"{name}.kubeconfig").write_text(json.dumps(kubeconfig, indent=2))
    scratch.rename(folder)
    shutil.copy(cluster.pki("admin.kubeconfig"), cluster.kubeconfig)
    cluster.kubeconfig.chmod(0o600)


def _write(folder: Path, name: str, signed: Signed) -> None:
    (folder / f"{name}.crt").write_bytes(signed.certificate_pem())
    (folder / f"{name}.key").write_bytes(signed.key_pem())


def _write_service_account_keys(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "service-account.key").write_bytes(_private_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-account.pub").write_bytes(public)


def _authority(cluster: Cluster) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cluster.scope)])
    builder = _builder(name, name, key, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    return Signed(builder.sign(key, hashes.SHA256()), key)


def _serving(cluster: Cluster, authority: Signed) -> Signed:
    """One server certificate for the API server and the other processes of the node."""
    service = "kubernetes.default.svc"
    names = ["kubernetes", "kubernetes.default", service, f"{service}.cluster.local", "localhost", cluster.name]
    addresses = [ipaddress.IPv4Address("127.0.0.1"), cluster.node_ip, cluster.api_service_ip]
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(address) for address in addresses]
    return _sign(
        authority,
        Identity("kube-apiserver"),
        [ExtendedKeyUsageOID.SERVER_AUTH],
        x509.SubjectAlternativeName(alternatives),
    )


def _client(authority: Signed, identity: Identity) -> Signed:
    return _sign(authority, identity, [ExtendedKeyUsageOID.CLIENT_AUTH])


def _sign(
    authority: Signed,
    identity: Identity,
    usages: Sequence[x509.ObjectIdentifier],
    alternatives: x509.SubjectAlternativeName | None = None,
) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
    subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, identity.user)])
    builder = _builder(subject, authority.certificate.subject, key, authority.key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    if alternatives is not None:
        builder = builder.add_extension(alternatives, False)
    return Signed(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + _LIFETIME)
        # Python 3.13 and later verify with VERIFY_X509_STRICT, which wants both identifiers.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(authority_id, False)
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _kubeconfig(cluster: Cluster, authority: Signed, identity: Identity) -> dict[str, object]:
    client = _client(authority, identity)
    server = {"server": cluster.server, "certificate-authority-data": _base64(authority.certificate_pem())}
    user = {
        "client-certificate-data": _base64(client.certificate_pem()),
        "client-key-data": _base64(client.key_pem()),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster.scope, "cluster": server}],
        "users": [{"name": identity.user, "user": user}],
        "contexts": [{"name": cluster.scope, "context": {"cluster": cluster.scope, "user": identity.user}}],
        "current-context": cluster.scope,
    }


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
