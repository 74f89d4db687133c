"""Numbers that every store, journal and message can keep."""

from typing import Annotated

from msgspec import Meta

#: numbers fit 64 bits, as every store and journal keeps them; a message with another is unreadable
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
