"""Which node keeps the environment containers: the one that the setting names, else the one on the host's machine, else
the only one that can. Knows capabilities and no plugin.
"""

from typing import ClassVar

from kohakuriver.errors import Conflict
from kohakuriver.host.roster import Member, Roster

CAPABILITY = "CanEnvironments"


class NoBuilder(Conflict):
    """no node keeps environment containers, or several could; say which with `builder` in [host]"""

    code: ClassVar[str] = "no_builder"


def able(member: Member) -> bool:
    """Whether a backend of the node said that it can keep environment containers."""
    return any(CAPABILITY in backend.capabilities for backend in member.backends)


def builder_of(roster: Roster, *, named: str, boot: str) -> Member:
    """The builder. `boot` is the boot id of the host's machine. Raises NoBuilder that says what to set."""
    members = roster.live()
    found = [member for member in members if able(member)]
    if named:
        chosen = roster.named(named)
        if chosen is None:
            raise NoBuilder(f"host.builder is {named!r}, and there is no such node; `kohakuriver node list` shows them")
        if chosen not in found:
            raise NoBuilder(f"host.builder is {named!r}, and that node has no backend for environment containers")
        return chosen
    here = [member for member in found if boot and member.boot == boot]
    if here:
        # of several runners on the host's machine the first by name, unless another one is there and it is not
        return next((member for member in here if member.connected), here[0])
    if not found:
        raise NoBuilder("no node has a backend that keeps environment containers, such as one with Docker")
    if len(found) > 1:
        names = ", ".join(member.name for member in found)
        raise NoBuilder(f"{names} could keep environment containers: say which with `builder` in [host]")
    return found[0]
