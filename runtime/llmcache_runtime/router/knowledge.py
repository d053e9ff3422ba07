"""What a front end knows of its engines: where they are, how they are, what they hold, what they cost."""

from collections.abc import Coroutine

from llmcache_runtime.policy import POLICIES, Fleet, PrefixAware
from llmcache_runtime.router.admission import Admission
from llmcache_runtime.router.engines import Engines
from llmcache_runtime.router.health import Health
from llmcache_runtime.router.learning import Learning
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.settings import Settings


class Knowledge:
    """Policy, engines, health, admission and metrics, joined. Make it inside a running loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self.policy = self._make_policy()
        self.engines = Engines(self.policy, self.metrics, settings.connect_timeout)
        self.health = Health(self.engines, self.policy, self.metrics, settings.health)
        self.admission = Admission(self.policy, self.engines, self.metrics, settings.admission)
        self.learning = Learning(self.engines, self.policy, settings.metrics_interval)

    def _make_policy(self) -> Fleet:
        if self._settings.policy == "PrefixAware":
            return PrefixAware(self._settings.prices)
        return POLICIES[self._settings.policy]()

    def jobs(self) -> list[Coroutine[None, None, None]]:
        """Give what keeps it true, to be run for as long as it is asked."""
        jobs = [self._discover(), self.health.probe_all()]
        return [*jobs, self.learning.run()] if self._settings.metrics_interval else jobs

    async def _discover(self) -> None:
        if self._settings.service is None:
            self.engines.apply(self._settings.engines)
            return
        # Imported here: these cost 15 MB, which a router with a fixed list of engines needs not pay.
        from llmcache_runtime.router.kube import Api  # noqa: PLC0415
        from llmcache_runtime.router.watch import EndpointSliceWatch  # noqa: PLC0415

        namespace, service = self._settings.service
        await EndpointSliceWatch(Api.in_cluster(), namespace, service, self.engines.apply).run()
