"""What this machine lets plain processes be limited by, in words."""

import os
from collections.abc import Sequence

from kohakuriver.hooks.values import Probe
from kohakuriver_process.limits import Limits
from kohakuriver_process.orders import Person

AS_ROOT = "tasks run as root on this node; set run_as to a user of little power"


def describe(limits: Limits, reasons: Sequence[str], me: Person, trouble: Sequence[str]) -> Probe:
    """The probe's answer. `reasons` say why better means of limiting are not used, `trouble` is fatal."""
    problems = list(trouble)
    if os.getuid() == 0 and me.switch is None:
        problems.append(AS_ROOT)
    facts = {"limits": limits.name, "user": me.name, **limits.facts}
    if reasons:
        facts["better limits"] = "; ".join(reasons)
    if limits.name in ("rlimits", "none"):
        problems.append(
            f"limits by {limits.name}: a task that means to can exceed its cores and leave its process tree"
        )
    return Probe(usable=not trouble, problems=tuple(problems), facts=facts)
