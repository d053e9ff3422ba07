"""How to reach the API server: the pod's service account, else KUBECONFIG. One source for both clients."""

from __future__ import annotations

import os

import kopf
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


class CredentialsError(Exception):
    """No usable credentials; the message says where they were looked for."""


async def load() -> Configuration:
    """Read the credentials anew: tokens rotate.

    Raises `CredentialsError`.
    """
    configuration = Configuration()
    try:
        if os.environ.get(IN_CLUSTER) and not os.environ.get("KUBECONFIG"):
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError) as error:
        message = f"no credentials for an API server: {error}; run in a pod or set KUBECONFIG"
        raise CredentialsError(message) from None
    return configuration


async def client() -> ApiClient:
    """Make a client of the API server. Raises `CredentialsError`."""
    made = ApiClient(await load())
    made.user_agent = "llmcache-operator"
    return made


async def for_kopf() -> kopf.ConnectionInfo:
    """Give kopf the same credentials. Raises `CredentialsError`."""
    configuration = await load()
    header = await configuration.get_api_key_with_prefix("BearerToken") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        token=header.split(" ", 1)[-1] or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
