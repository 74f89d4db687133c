"""Waiting with a deadline for what another process does; a failure shows what there was."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE = 0.05


def until(look: Callable[[], Found | None], *, within: float, what: str, tell: Callable[[], str] = lambda: "") -> Found:
    """What `look` finds, as soon as it finds something true. AssertionError with `tell()` after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            found = look()
        except OSError as error:
            raise AssertionError(f"while waiting: {what}: {error!r}\n{tell()}") from error
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {found!r}\n{tell()}")
        time.sleep(PAUSE)


def holds(look: Callable[[], bool], *, seconds: float, what: str, tell: Callable[[], str] = lambda: "") -> None:
    """AssertionError unless `look` is true all the time for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), f"did not hold for {seconds:g} s: {what}\n{tell()}"
        time.sleep(PAUSE)
