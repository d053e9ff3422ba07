"""Everything that can be set, with defaults; `cli` fills it from flags."""

from dataclasses import dataclass, field
from pathlib import Path

from llmcache_runtime.policy import Prices
from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.connection import Patience
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.health import HealthSettings
from llmcache_runtime.router.http1 import Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """A router. Either `service` (namespace, name) or `engines`; `tls`: certificate, key; times in seconds."""

    service: tuple[str, str] | None = None
    engines: tuple[Endpoint, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 (a server in a pod)
    port: int = 8000
    private_port: int = 9090
    policy: str = "PrefixAware"
    prices: Prices = field(default_factory=Prices)
    connect_timeout: float = 1.0
    metrics_interval: float = 10.0
    grace: float = 5.0
    drain_timeout: float = 300.0
    max_connections: int = 10000
    access_log: bool = True
    api_keys: Path | None = None
    tls: tuple[Path, Path] | None = None
    admin_paths: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    health: HealthSettings = field(default_factory=HealthSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    forward: ForwardSettings = field(default_factory=ForwardSettings)
