"""What images lie on this node, as its backend last told, so that a task whose image is there costs no question."""

import asyncio
from dataclasses import replace

from kohakuriver.errors import BackendAway
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.packages import Held, HeldImage, Packages

#: a backend that has not told by then is away
LOOK_SECONDS = 60.0


class Stock:
    """The images of one backend."""

    def __init__(self, backend: Backend, packages: Packages) -> None:
        self.backend = backend
        self.packages = packages
        self._held: Held | None = None
        self._looking = asyncio.Lock()

    @property
    def held(self) -> Held:
        """As last told; empty before that."""
        return self._held or Held()

    @property
    def known(self) -> bool:
        """Whether the backend has told at all."""
        return self._held is not None

    def has(self, digest: str) -> bool:
        """Whether it was there when the backend was last asked. Costs no I/O."""
        return self._held is not None and digest in self._held.images

    async def look(self) -> Held:
        """Asks the backend. Raises BackendAway."""
        async with self._looking:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    self._held = await self.packages.held()
            except TimeoutError:
                raise BackendAway(f"backend {self.backend.name} does not say which images it has") from None
            return self._held

    def add(self, image: HeldImage) -> None:
        """It has just been put there."""
        self._held = replace(self.held, images={**self.held.images, image.digest: image})

    def forget(self, digest: str) -> None:
        """It is about to go, or has gone."""
        if self._held is not None:
            left = {name: image for name, image in self._held.images.items() if name != digest}
            self._held = replace(self._held, images=left)
