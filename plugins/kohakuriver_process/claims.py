"""Which bodies processes of the node belong to: by control group where there is one, by descent, and by the mark.

The mark stands in the environment that a process was given, so what it says counts last.
"""

from collections.abc import Iterable, Mapping

from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.frames import Message
from kohakuriver_process.shepherd.hunt import MARK


def owners(stories: Mapping[str, Message], pids: Iterable[int]) -> dict[int, str]:
    """The instance that each process belongs to, of those whose shepherd tells these stories. Blocks: reads /proc."""
    running = {instance: story for instance, story in stories.items() if story.get("run") is not None}
    by_group = {
        pid: instance
        for instance, story in running.items()
        for directory in story["groups"]
        for pid in groups.members(directory)
    }
    mains = {int(story["run"].partition("-")[0]): instance for instance, story in running.items()}
    attempts = {story["attempt"]: instance for instance, story in running.items()}
    found = {}
    for pid in pids:
        owner = by_group.get(pid) or _by_descent(pid, mains) or attempts.get(tree.marks(pid, [MARK]).get(MARK, ""))
        if owner is not None:
            found[pid] = owner
    return found


def _by_descent(pid: int, mains: Mapping[int, str]) -> str | None:
    """Whose main process is above it, or began its session."""
    process = tree.look(pid)
    session = mains.get(process.session) if process is not None else None
    while process is not None and process.pid > 1:
        if process.pid in mains:
            return mains[process.pid]
        process = tree.look(process.parent)
    return session
