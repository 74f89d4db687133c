"""The means of limiting that need something of the machine, best first."""

from kohakuriver_process import cgroup1, cgroup2, systemd
from kohakuriver_process.limits import Finder

FINDERS: dict[str, Finder] = {"systemd": systemd.find, "cgroup2": cgroup2.find, "cgroup1": cgroup1.find}
