import json
import ssl
import stat
from base64 import b64decode

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from e2e.cluster import pki
from e2e.cluster.layout import Cluster


@pytest.fixture
def made(cluster: Cluster) -> Cluster:
    pki.ensure(cluster)
    return cluster


def certificate(cluster: Cluster, client: str) -> x509.Certificate:
    config = json.loads(cluster.pki(f"{client}.kubeconfig").read_text())
    return x509.load_pem_x509_certificate(b64decode(config["users"][0]["user"]["client-certificate-data"]))


def test_every_client_certificate_is_signed_by_the_authority(made: Cluster) -> None:
    authority = x509.load_pem_x509_certificate(made.pki("ca.crt").read_bytes())

    for client in pki.clients(made):
        certificate(made, client).verify_directly_issued_by(authority)


def test_the_kubelet_is_its_node(made: Cluster) -> None:
    subject = certificate(made, "kubelet").subject

    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"system:node:{made.name}"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_the_api_server_is_itself_at_every_address(made: Cluster) -> None:
    serving = x509.load_pem_x509_certificate(made.pki("serving.crt").read_bytes())
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert {made.node_ip, made.api_service_ip} <= set(names.get_values_for_type(x509.IPAddress))
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_openssl_takes_the_authority_and_the_key_pair(made: Cluster) -> None:
    context = ssl.create_default_context(cafile=made.pki("ca.crt"))
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.load_cert_chain(made.pki("serving.crt"), made.pki("serving.key"))

    assert context.cert_store_stats()["x509_ca"] == 1


def test_a_second_run_keeps_the_keys(made: Cluster) -> None:
    before = made.pki("ca.crt").read_bytes(), made.kubeconfig.read_bytes()

    pki.ensure(made)

    assert (made.pki("ca.crt").read_bytes(), made.kubeconfig.read_bytes()) == before


def test_keys_are_for_their_owner_only(made: Cluster) -> None:
    assert stat.S_IMODE(made.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.pki("").stat().st_mode) == 0o700
