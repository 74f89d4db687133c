"""The host's contents as a node reaches them: over real HTTP, cut off, damaged, refused."""

import asyncio
import hashlib

import pytest
from aiohttp import web

from kohakuriver.errors import NotFound, PluginError, StorageFull, Unreachable
from kohakuriver.hooks import bundles
from kohakuriver.runner.clock import Clock
from kohakuriver.runner.environments import blobs as module
from kohakuriver.runner.environments.blobs import HostBlobs
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.testing.syncing import silent
from kohakuriver.wire import codec, urls
from kohakuriver.wire.environments import Missing, MissingAsk
from tests.client.scripted import Peer, make_certificate

CONTENT = bytes(range(256)) * 9000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def noise(count):
    """Bytes that cannot be compressed."""
    return b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(count // 32))


class Store:
    """The host's routes, with whatever goes wrong in front of them."""

    def __init__(self):
        self.files = {}
        self.asked = []
        #: answers before any that is right: (status, code)
        self.refusals = []
        #: the next downloads end after so many bytes
        self.cuts = []

    async def start(self):
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/node/missing-blobs", self._missing)
        app.router.add_put(urls.NODE_BLOB, self._put)
        app.router.add_get(urls.NODE_BLOB, self._get)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    def _refuse(self, request):
        self.asked.append((request.method, request.headers.get("Range"), request.headers["Authorization"]))
        if not self.refusals:
            return None
        status, code = self.refusals.pop(0)
        return web.json_response({"code": code, "detail": f"the host says {code}"}, status=status)

    async def _missing(self, request):
        assert request.content_type == "application/json"
        ask = codec.decode_strict(await request.read(), MissingAsk)
        found = Missing(digests=[digest for digest in ask.digests if digest not in self.files])
        return self._refuse(request) or web.Response(body=codec.encode(found))

    async def _put(self, request):
        body = await request.read()
        assert len(body) == int(request.headers["Content-Length"])
        refused = self._refuse(request)
        if refused is None:
            self.files[request.match_info["digest"]] = body
        return refused or web.Response(status=204)

    async def _get(self, request):
        refused = self._refuse(request)
        if refused is not None:
            return refused
        data = self.files.get(request.match_info["digest"])
        if data is None:
            return web.json_response({"code": "not_found", "detail": "there is no such content"}, status=404)
        at = request.http_range.start or 0
        if at >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        response = web.StreamResponse(status=206 if at else 200)
        response.content_length = len(data) - at
        await response.prepare(request)
        if self.cuts:
            await response.write(data[at : at + self.cuts.pop(0)])
            request.transport.close()
        else:
            await response.write(data[at:])
        return response


@pytest.fixture
async def store():
    host = Store()
    await host.start()
    yield host
    await host.runner.cleanup()


@pytest.fixture
async def blobs(store, tmp_path):
    async def at_once(seconds):
        await asyncio.sleep(0)

    settings = RunnerSettings(data_dir=tmp_path, host_url=store.url, credential="secret", name="n1")
    client = HostBlobs(settings, Clock(sleep=at_once), asyncio.to_thread)
    yield client
    await client.close()


def packed(tmp_path, content=CONTENT):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    bundles.pack(tmp_path, digest, [content])
    return digest, bundles.blob(tmp_path, digest)


async def test_only_what_the_host_lacks_is_named(blobs, store, monkeypatch):
    monkeypatch.setattr(module, "MOST_DIGESTS", 2)
    names = [f"sha256:{number:064}" for number in range(5)]
    store.files = {names[0]: b"", names[3]: b""}
    assert await blobs.missing(names) == {names[1], names[2], names[4]}
    assert [method for method, *_ in store.asked] == ["POST"] * 3


async def test_what_was_uploaded_comes_back_and_is_verified(blobs, store, tmp_path):
    digest, path = packed(tmp_path)
    told = []
    await blobs.put(digest, path, lambda note, done=None, total=None: told.append((done, total)))
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    into = tmp_path / "got.zst"
    await blobs.get(digest, into, silent)
    assert into.read_bytes() == path.read_bytes()
    assert {credential for *_, credential in store.asked} == {"Bearer secret"}
    asked = len(store.asked)
    await blobs.get(digest, into, silent)
    assert len(store.asked) == asked


async def test_a_broken_connection_is_taken_up_where_it_broke(blobs, store, tmp_path):
    digest, path = packed(tmp_path, noise(1 << 23))
    store.files[digest] = path.read_bytes()
    store.cuts = [2_000_000] * 3
    into = tmp_path / "got.zst"
    told = []
    await blobs.get(digest, into, lambda note, done=None, total=None: told.append((done, total)))
    assert into.read_bytes() == path.read_bytes()
    ranges = [range_ for _, range_, _ in store.asked]
    assert len(ranges) == 4
    starts = [int(range_.removeprefix("bytes=").removesuffix("-")) for range_ in ranges[1:]]
    assert 0 < starts[0] < starts[1] < starts[2] <= 6_000_000
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


async def test_a_former_life_left_a_beginning(blobs, store, tmp_path):
    digest, path = packed(tmp_path, noise(1 << 16))
    store.files[digest] = data = path.read_bytes()
    into = tmp_path / "got.zst"
    into.with_suffix(".part").write_bytes(data[:1000])
    await blobs.get(digest, into, silent)
    assert into.read_bytes() == data
    assert [range_ for _, range_, _ in store.asked] == ["bytes=1000-"]


@pytest.mark.parametrize("beginning", [b"another beginning", b"x" * 10_000_000])
async def test_a_beginning_of_something_else_is_thrown_away(blobs, store, tmp_path, beginning):
    digest, path = packed(tmp_path)
    store.files[digest] = data = path.read_bytes()
    into = tmp_path / "got.zst"
    into.with_suffix(".part").write_bytes(beginning)
    await blobs.get(digest, into, silent)
    assert into.read_bytes() == data


async def test_a_whole_file_without_its_name_needs_no_bytes(blobs, store, tmp_path):
    digest, path = packed(tmp_path)
    store.files[digest] = data = path.read_bytes()
    into = tmp_path / "got.zst"
    into.with_suffix(".part").write_bytes(data)
    await blobs.get(digest, into, silent)
    assert into.read_bytes() == data
    assert len(store.asked) == 1


async def test_a_file_that_was_changed_since_is_fetched_again(blobs, store, tmp_path):
    digest, path = packed(tmp_path)
    store.files[digest] = data = path.read_bytes()
    into = tmp_path / "got.zst"
    into.write_bytes(data[:-1])
    await blobs.get(digest, into, silent)
    assert into.read_bytes() == data


async def test_what_is_not_what_it_says_leaves_nothing(blobs, store, tmp_path):
    _, path = packed(tmp_path)
    wanted = "sha256:" + "0" * 64
    store.files[wanted] = path.read_bytes()
    into = tmp_path / "got.zst"
    with pytest.raises(PluginError, match="is not what it says"):
        await blobs.get(wanted, into, silent)
    assert sorted(tmp_path.iterdir()) == [path]


async def test_what_the_host_has_not_got_is_not_found(blobs, tmp_path):
    with pytest.raises(NotFound, match="there is no such content"):
        await blobs.get(DIGEST, tmp_path / "got.zst", silent)


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        ((507, "storage_full"), PluginError, "the host refuses the content: the host says storage_full"),
        ((422, "invalid"), PluginError, "the host says invalid"),
        ((401, "not_signed_in"), Unreachable, "does not know this node's credential"),
    ],
)
async def test_a_refusal_is_told_in_the_words_of_the_host(blobs, store, tmp_path, refusal, kind, words):
    digest, path = packed(tmp_path)
    store.refusals = [refusal]
    with pytest.raises(kind, match=words):
        await blobs.put(digest, path, silent)
    assert len(store.asked) == 1


@pytest.mark.parametrize("passing", [(409, "conflict"), (503, "not_ready"), (429, "too_many")])
async def test_what_passes_is_tried_again(blobs, store, tmp_path, passing):
    digest, path = packed(tmp_path)
    store.refusals = [passing] * 3
    await blobs.put(digest, path, silent)
    assert store.files[digest] == path.read_bytes()


async def test_a_host_that_never_answers_rightly_is_given_up(blobs, store, tmp_path):
    digest, path = packed(tmp_path)
    store.refusals = [(503, "not_ready")] * 100
    with pytest.raises(Unreachable, match="the host does not answer"):
        await blobs.put(digest, path, silent)
    assert len(store.asked) == module.MOST_TRIES


async def test_a_silent_host_is_given_up(blobs, store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.05)

    async def silence(request):
        await asyncio.Event().wait()

    app = web.Application()
    app.router.add_get(urls.NODE_BLOB, silence)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    object.__setattr__(blobs._settings, "host_url", url)
    with pytest.raises(Unreachable, match="it took too long"):
        await blobs.get(DIGEST, tmp_path / "got.zst", silent)
    await runner.cleanup()


async def test_a_full_disk_here_is_no_fault_of_the_host(blobs, store, tmp_path):
    digest, path = packed(tmp_path)
    store.files[digest] = path.read_bytes()
    into = tmp_path / "no-such-folder" / "got.zst"
    with pytest.raises(StorageFull):
        await blobs.get(digest, into, silent)
    assert len(store.asked) == 1


async def test_another_certificate_than_the_pinned_one_is_told_at_once(tmp_path):
    file, _ = make_certificate(tmp_path)
    peer = Peer(tls=file)
    settings = RunnerSettings(
        data_dir=tmp_path,
        host_url=peer.url,
        credential="secret",
        name="n1",
        fingerprint=hashlib.sha256(b"other").hexdigest(),
    )
    client = HostBlobs(settings, Clock(), asyncio.to_thread)
    try:
        with pytest.raises(Unreachable, match="another certificate than the pinned one; join this node again"):
            await client.get(DIGEST, tmp_path / "x.zst", silent)
        assert not peer.asked
    finally:
        await client.close()
        await asyncio.to_thread(peer.close)
