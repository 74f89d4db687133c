"""`task submit --dry-run`: what a submission would mean, shown."""

from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.exits import OK
from kohakuriver.cli.output import Output
from kohakuriver.cli.shown import held_up
from kohakuriver.cli.taskview import CANDIDATES


def print_plan(plan: Mapping[str, Any], out: Output) -> int:
    """Where the tasks would go and when, with what each node says."""
    if out.machine or out.style.quiet or out.style.format == "name":
        out.data(plan, name="tasks")
        return OK
    word = "task" if plan["tasks"] == 1 else "tasks"
    out.text(f"{plan['tasks']} {word}, {plan['starting']} would start now; nothing was submitted")
    for place in plan["places"]:
        target = f"{place['target']}: " if place["target"] else ""
        out.text(f"{target}{'on ' + place['node'] if place['node'] else held_up(place)}")
        out.text(f"start: {place['window']['text']}")
        out.data(place["candidates"], columns=CANDIDATES, name="node")
    return OK
