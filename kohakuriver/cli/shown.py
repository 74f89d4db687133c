"""How fields of the API read in tables: times, sizes, reasons, commands."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kohakuriver.cli.output import Column

Row = Mapping[str, Any]


def moment(text: object) -> str:
    """A time of the API in the local zone, to the second."""
    parsed = _time(text)
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M:%S") if parsed else ""


def span(row: Row) -> str:
    """How long the task runs or ran."""
    began, ended = _time(row.get("started")), _time(row.get("finished"))
    if began is None:
        return ""
    return seconds(((ended or datetime.now(UTC)) - began).total_seconds())


def seconds(amount: object) -> str:
    """The two largest units: 5s, 3m20s, 2h30m, 4d3h."""
    if not isinstance(amount, int | float):
        return ""
    left = max(0, int(amount))
    text, shown = "", 0
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= length and shown < 2:
            count, left = divmod(left, length)
            text += f"{count}{unit}"
            shown += 1
        elif text:
            break
    return text or "0s"


def size(amount: object) -> str:
    """A size in at most three digits and the unit that `-m` takes."""
    if not isinstance(amount, int | float):
        return ""
    figure = float(amount)
    for unit in ("B", "K", "M", "G", "T", "P"):
        if figure < 1024 or unit == "P":
            return f"{figure:.1f}{unit}" if figure < 10 and unit != "B" and figure % 1 else f"{figure:.0f}{unit}"
        figure /= 1024
    return ""


def command(row: Row) -> str:
    """The command as a shell would take it; for a script its first line."""
    words = list(row.get("command") or ())
    if script := row.get("script"):
        words.insert(0, f"<{str(script).splitlines()[0] if str(script).strip() else 'script'}>")
    if words and all(word.isascii() and word.replace("-", "").replace("/", "").isalnum() for word in words):
        return " ".join(words)
    from shlex import quote

    return " ".join(quote(str(word)) for word in words)


def reason(row: Row) -> str:
    """Why the task waits."""
    return str((row.get("reason") or {}).get("text") or "")


def held_up(row: Row) -> str:
    """Why the task waits, and how many stand before it."""
    ahead = (row.get("reason") or {}).get("ahead")
    if not ahead:
        return reason(row)
    return f"{reason(row)}; {'1 task is' if ahead == 1 else f'{ahead} tasks are'} before it"


def ended(row: Row) -> str:
    """How it ended: its exit code, its signal, or why there is neither."""
    known = row.get("exit") or {}
    if known.get("oom"):
        return "out of memory"
    if known.get("signal"):
        return f"signal {known['signal']}"
    return str(known["code"]) if known.get("code") is not None else str(known.get("reason") or "")


def status(row: Row) -> str:
    """The status; with a question mark while nobody hears of the node."""
    return f"{row.get('status') or ''}{' (unreachable)' if row.get('unreachable') else ''}"


def of(key: str, title: str, show: Any) -> Column:
    """A column that shows one field through a function."""
    return Column(key, title, lambda row: show(row.get(key)))


def _time(text: object) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed


TASKS = (
    Column("id", "ID"),
    Column("name", "NAME"),
    Column("status", "STATUS", status),
    Column("node", "NODE"),
    Column("owner", "OWNER"),
    Column("cores", "CORES"),
    of("memory", "MEMORY", size),
    Column("devices", "GPUS"),
    Column("started", "TIME", span),
    Column("exit", "EXIT", ended),
    Column("command", "COMMAND", lambda row: reason(row) if row.get("status") == "pending" else command(row)),
)
TASKS_COMPACT = (Column("id", "ID"), Column("status", "STATUS", status), Column("node", "NODE"), TASKS[-1])
NODES = (
    Column("name", "NAME"),
    Column("status", "STATUS", lambda row: f"{row.get('status')}{' (draining)' if row.get('draining') else ''}"),
    Column("cores", "CORES", lambda row: _used(row.get("cores_reserved"), row.get("cores"), _figure)),
    Column("memory", "MEMORY", lambda row: _used(row.get("memory_reserved"), row.get("memory"), size)),
    Column("gpus", "GPUS", lambda row: str(len(row.get("gpus") or ()))),
    Column("tasks", "TASKS"),
    of("load", "LOAD", lambda value: "" if value is None else f"{value:.2f}"),
    of("backends", "BACKENDS", lambda value: ",".join(value or ())),
)


def _used(part: object, whole: object, show: Any) -> str:
    return f"{show(part)}/{show(whole)}"


def _figure(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else ""
