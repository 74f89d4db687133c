"""Names and labels: whose a container is. Only what carries this runner's label is ever looked at or touched."""

import hashlib
from collections.abc import Mapping

from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Job

PREFIX = "kohakuriver."
RUNNER = PREFIX + "runner"
INSTANCE = PREFIX + "instance"


class Names:
    """Those of one runner. Two runners on one daemon have different ones."""

    def __init__(self, ctx: Context) -> None:
        self._cluster, self._node = ctx.cluster, ctx.node
        #: value of the label that makes a thing this runner's
        self.runner = f"{ctx.cluster}/{ctx.node}"
        self._short = hashlib.sha256(self.runner.encode()).hexdigest()[:8]

    def container(self, instance: str) -> str:
        return f"kr-{self._short}-{instance}"

    @property
    def network(self) -> str:
        return f"kr-{self._short}"

    @property
    def own(self) -> dict[str, str]:
        """Of what belongs to the runner and to no job."""
        return {RUNNER: self.runner, PREFIX + "cluster": self._cluster, PREFIX + "node": self._node}

    def labels(self, job: Job) -> dict[str, str]:
        """On every container; those of runner and instance say whose it is."""
        return {
            **self.own,
            INSTANCE: job.instance,
            PREFIX + "attempt": job.attempt,
            PREFIX + "owner": job.owner,
        }

    def is_ours(self, labels: Mapping[str, str] | None, instance: str | None = None) -> bool:
        """Whether these labels are this runner's; with an instance, that very body's."""
        labels = labels or {}
        return labels.get(RUNNER) == self.runner and (instance is None or labels.get(INSTANCE) == instance)

    @property
    def filter(self) -> str:
        """For lists of containers and networks."""
        return f"{RUNNER}={self.runner}"
