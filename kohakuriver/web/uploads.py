"""Bodies that are taken piece by piece, never held as a whole. Knows no handler."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from kohakuriver.errors import Invalid, Malformed, TooLarge
from kohakuriver.web.problems import TooSlow, UnsupportedType

#: seconds without a byte after which an upload is given up
STALLED_SECONDS = 60.0


def size_of(request: web.Request) -> int:
    """How many bytes the body has. Raises Invalid when that is not said."""
    size = request.content_length
    if size is None:
        raise Invalid("this needs a Content-Length", field="Content-Length")
    return size


def pieces_of(request: web.Request, most: int) -> AsyncIterator[bytes]:
    """The body as it comes, `most` bytes at most. Raises UnsupportedType and TooLarge at once; TooLarge, TooSlow and
    Malformed (it broke off) while it comes.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedType("compressed bodies are not taken", field="Content-Encoding")
    if request.content_length is not None and request.content_length > most:
        raise TooLarge(f"a body of {request.content_length} bytes; at most {most}", limit=most)
    return _pieces(request, most)


async def _pieces(request: web.Request, most: int) -> AsyncIterator[bytes]:
    came = 0
    while piece := await _piece(request):
        came += len(piece)
        if came > most:
            raise TooLarge(f"the body is larger than {most} bytes", limit=most)
        yield piece


async def _piece(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            return await request.content.readany()
    except TimeoutError:
        raise TooSlow(f"nothing of the body came for {STALLED_SECONDS:.0f} s") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed(f"the body broke off: {error}") from None
