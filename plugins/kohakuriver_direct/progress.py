"""One progress out of those of several layers, in bytes of what they unpack to."""

from collections.abc import Sequence

from kohakuriver.hooks.backend import Progress
from kohakuriver.hooks.packages import Layer


class Sum:
    """How far all layers together are; a layer's own progress counts by its fraction."""

    def __init__(self, note: str, layers: Sequence[Layer], progress: Progress) -> None:
        self._note = note
        self._progress = progress
        self._total = sum(layer.size for layer in layers)
        self._done = dict.fromkeys((layer.digest for layer in layers), 0)

    def of(self, layer: Layer) -> Progress:
        """The progress to hand to whatever moves this layer."""

        def tell(note: str, done: int | None = None, total: int | None = None) -> None:  # noqa: ARG001 -- one note for all
            if done is not None and total:
                self._put(layer, layer.size * min(done, total) // total)

        return tell

    def finish(self, layer: Layer) -> None:
        """This layer is there."""
        self._put(layer, layer.size)

    def _put(self, layer: Layer, done: int) -> None:
        self._done[layer.digest] = done
        self._progress(self._note, sum(self._done.values()), self._total)
