"""Who works on an environment container: one operation alone, or several that leave its state alone. Nobody waits."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from kohakuriver.errors import Conflict


class Turns:
    """Those of one runner, by the name of the container."""

    def __init__(self) -> None:
        self._alone: dict[str, str] = {}
        self._beside: Counter[str] = Counter()

    @property
    def busy(self) -> frozenset[str]:
        """The containers that something is done with."""
        return frozenset(self._alone) | frozenset(self._beside)

    @contextlib.contextmanager
    def alone(self, name: str, what: str) -> Iterator[None]:
        """Nothing else happens to the container meanwhile. `what` is a participle. Raises Conflict."""
        self._must_be_free(name)
        if self._beside[name]:
            raise Conflict(f"container {name} is in use: its files are changed or a terminal is opened; try again")
        self._alone[name] = what
        try:
            yield
        finally:
            del self._alone[name]

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Others of the kind may be under way, and nothing that is alone. Raises Conflict."""
        self._must_be_free(name)
        self._beside[name] += 1
        try:
            yield
        finally:
            self._beside[name] -= 1
            if not self._beside[name]:
                del self._beside[name]

    def _must_be_free(self, name: str) -> None:
        if name in self._alone:
            raise Conflict(f"container {name} is being {self._alone[name]}; try again when that is done")
