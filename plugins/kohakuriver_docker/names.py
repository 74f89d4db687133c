"""Names and labels: whose a container or an image is. Only what carries this runner's label is ever touched, and of
images only what has a name of this cluster's.
"""

import hashlib
import re
from collections.abc import Mapping

from kohakuriver.hooks.context import Context
from kohakuriver.hooks.values import Job

PREFIX = "kohakuriver."
RUNNER = PREFIX + "runner"
INSTANCE = PREFIX + "instance"
#: on the containers in which people set up environments; no body of a task has it
ENVIRONMENT = PREFIX + "environment"
#: what follows the cluster's part of the name of a version: the environment and the number
VERSION = re.compile(r"([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*):([1-9][0-9]{0,17})")


class Names:
    """Those of one runner. Two runners on one daemon have different ones."""

    def __init__(self, ctx: Context) -> None:
        self._cluster, self._node = ctx.cluster, ctx.node
        #: value of the label that makes a thing this runner's
        self.runner = f"{ctx.cluster}/{ctx.node}"
        self._short = hashlib.sha256(self.runner.encode()).hexdigest()[:8]
        #: what the name of every image of this cluster begins with; its runners share them on one daemon
        self.images = f"kr-env-{hashlib.sha256(ctx.cluster.encode()).hexdigest()[:8]}/"

    def container(self, instance: str) -> str:
        return f"kr-{self._short}-{instance}"

    @property
    def network(self) -> str:
        return f"kr-{self._short}"

    def image(self, environment: str, number: int) -> str:
        """The local name of a version: nobody's `image prune` takes an image with a name."""
        return f"{self.images}{environment}:{number}"

    def unsettled(self, digest: str) -> str:
        """The local name of an image of ours that is no version yet, or no version's."""
        return f"{self.images}unsettled/{digest.removeprefix('sha256:')}:latest"

    def environment(self, name: str) -> str:
        """The name of the container in which people set up this environment."""
        return f"kr-env-{self._short}-{name}"

    def successor(self, name: str) -> str:
        """The name of the container that is to take its place; no environment's own, for none has two dots in a row."""
        return f"{self.environment(name)}..next"

    def pending(self, name: str = "") -> str:
        """What the local names of images begin with that this runner made and that no version names yet."""
        return f"{self.images}pending/{self._short}/{name}"

    def version(self, name: str) -> tuple[str, int] | None:
        """The environment and the number that a local name is of; None when it is of no version of ours."""
        found = VERSION.fullmatch(name.removeprefix(self.images)) if self.is_our_image(name) else None
        return None if found is None else (found[1], int(found[2]))

    def is_our_image(self, name: str) -> bool:
        """Whether a local name of an image is of our making."""
        return name.startswith(self.images)

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
            ENVIRONMENT: "",
        }

    def environment_labels(self, name: str) -> dict[str, str]:
        """On a container in which people set up an environment. Labels of its image stand behind them."""
        return {**self.own, ENVIRONMENT: name, INSTANCE: "", PREFIX + "attempt": "", PREFIX + "owner": ""}

    def environment_of(self, labels: Mapping[str, str] | None) -> str:
        """The environment that these labels of a container of ours name; "" for none."""
        return (labels or {}).get(ENVIRONMENT, "") if self.is_ours(labels) else ""

    def is_ours(self, labels: Mapping[str, str] | None, instance: str | None = None) -> bool:
        """Whether these labels are this runner's; with an instance, that very body's."""
        labels = labels or {}
        return labels.get(RUNNER) == self.runner and (instance is None or labels.get(INSTANCE) == instance)

    @property
    def filter(self) -> str:
        """For lists of containers and networks."""
        return f"{RUNNER}={self.runner}"
