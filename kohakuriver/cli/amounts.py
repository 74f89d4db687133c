"""What an account holds and may hold, in words."""

from collections.abc import Mapping
from typing import Any

from kohakuriver.cli.shown import size

NAMES = (("running", "tasks"), ("cores", "cores"), ("memory", "of memory"), ("devices", "GPUs"))


def held(row: Mapping[str, Any]) -> str:
    """What the tasks of an account hold; empty when that is nothing."""
    return ", ".join(f"{_amount(key, row[key])} {word}" for key, word in NAMES if row.get(key))


def limits(row: Mapping[str, Any]) -> str:
    """What they may hold, as far as the account itself says so; the cluster's defaults are not told here."""
    asked = ((key, word, row.get(f"most_{key}")) for key, word in NAMES)
    return ", ".join(f"{_amount(key, most) if most else 'any'} {word}" for key, word, most in asked if most is not None)


def _amount(key: str, amount: float) -> str:
    return size(int(amount)) if key == "memory" else f"{amount:g}"
