"""What `registry` makes of sign-ins, and of registries that are slow, send it elsewhere, or answer with something else."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from kohakuriver_registry.guard import GuardedResolver, check_host, is_forbidden
from kohakuriver_registry.syncer import RegistrySyncer

from kohakuriver.errors import PluginError, Unreachable
from kohakuriver.hooks.context import Done
from kohakuriver.hooks.packages import Held, Stored, Version
from kohakuriver.hooks.syncer import SyncContext
from kohakuriver.net.process import run_command
from kohakuriver.testing.syncing import FakeBlobs, silent

from .oci_registry import MANIFEST, PASSWORD, USER, OciRegistry, a_registry, why_not
from .registry_kit import RegistryKit

IMAGE = "sha256:" + "1" * 64
BODY = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": IMAGE, "size": 2}}).encode()
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Stub:
    """A registry of one manifest that does what `answer` says."""

    def __init__(self) -> None:
        self.answer = self.manifest
        self.seen: list[web.Request] = []
        self.host = ""

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=BODY, content_type=MANIFEST)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if request.path == "/token":
            assert request.headers["Authorization"] == BASIC
            return web.json_response({"token": f"t-{request.query['scope']}"})
        return await self.answer(request)


@pytest.fixture
async def stub(aiohttp_server) -> Stub:
    stub = Stub()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.handle)
    server = await aiohttp_server(app)
    stub.host = f"127.0.0.1:{server.port}"
    return stub


@asynccontextmanager
async def opened(tmp_path: Path, host: str, run=run_command, **config) -> AsyncIterator[RegistrySyncer]:
    (tmp_path / "password").write_text(PASSWORD)
    syncer = RegistrySyncer()
    await syncer.open(
        SyncContext(
            cluster="1", node="n", state=tmp_path, blobs=FakeBlobs(tmp_path / "blobs"), run=run,
            config={"repository": f"{host}/lab", "docker_config": str(tmp_path / "config.json"), **config},
            in_thread=asyncio.to_thread,
        )
    )  # fmt: skip
    try:
        yield syncer
    finally:
        await syncer.close()


def stored(host: str) -> Stored:
    version = Version(environment="env", number=1, digest=IMAGE)
    return Stored(version=version, locator=f"{host}/lab/env@{DIGEST}")


async def ensure(syncer: RegistrySyncer, host: str, tmp_path: Path):
    return await syncer.ensure(stored(host), Held(), tmp_path, silent)


async def test_without_a_sign_in_the_reference_goes_to_the_engine_as_it_is(tmp_path, stub):
    async with opened(tmp_path, stub.host) as syncer:
        image = await ensure(syncer, stub.host, tmp_path)
    assert (image.reference, image.digest, image.auth) == (f"{stub.host}/lab/env@{DIGEST}", IMAGE, None)
    assert [request.headers.get("Authorization") for request in stub.seen] == [None]


async def test_a_token_is_fetched_with_our_credentials_and_used_again(tmp_path, stub):
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer t-repository:lab/env:pull":
            challenge = f'Bearer realm="http://{stub.host}/token",service="lab",scope="repository:lab/env:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await stub.manifest(request)

    stub.answer = answer
    async with opened(tmp_path, stub.host, username=USER, password_file=str(tmp_path / "password")) as syncer:
        image = await ensure(syncer, stub.host, tmp_path)
        await ensure(syncer, stub.host, tmp_path)
    assert [request.path for request in stub.seen].count("/token") == 1
    told = json.loads(base64.urlsafe_b64decode(image.auth))
    assert told == {"username": USER, "password": PASSWORD, "serveraddress": stub.host}


async def wants_basic(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") != BASIC:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="lab"'})
    return web.Response(body=BODY, content_type=MANIFEST)


async def test_what_docker_login_has_kept_is_used(tmp_path, stub):
    stub.answer = wants_basic
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {stub.host: {"auth": auth}}}))
    async with opened(tmp_path, stub.host) as syncer:
        await ensure(syncer, stub.host, tmp_path)


async def test_a_credential_helper_is_asked(tmp_path, stub):
    async def run(argv, *, limit, input=b"", env=None) -> Done:
        assert (argv, input) == (["docker-credential-safe", "get"], stub.host.encode())
        return Done(code=0, stdout=json.dumps({"Username": USER, "Secret": PASSWORD}).encode(), stderr=b"")

    stub.answer = wants_basic
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {stub.host: "safe"}}))
    async with opened(tmp_path, stub.host, run) as syncer:
        await ensure(syncer, stub.host, tmp_path)


@pytest.mark.parametrize("config", [b"{", b"[]", b'{"auths": {"HOST": {"auth": "%%%"}}}', b'{"credsStore": "../evil"}'])
async def test_a_configuration_of_docker_that_is_none_is_told(tmp_path, stub, config):
    stub.answer = wants_basic
    (tmp_path / "config.json").write_bytes(config.replace(b"HOST", stub.host.encode()))
    async with opened(tmp_path, stub.host) as syncer:
        assert not (await syncer.probe()).usable
        with pytest.raises(PluginError, match=r"config.json|credential helper"):
            await ensure(syncer, stub.host, tmp_path)


async def test_without_credentials_it_says_which_are_missing(tmp_path, stub):
    stub.answer = wants_basic
    async with opened(tmp_path, stub.host) as syncer:
        assert "password_file" in (await syncer.probe()).problems[0]
        with pytest.raises(PluginError, match=r"env:1 .*password_file"):
            await ensure(syncer, stub.host, tmp_path)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, PluginError, "env:1 is gone"),
        (403, PluginError, "does not let us in"),
        (500, PluginError, "env:1 .* 500"),
        (418, PluginError, "env:1 .* 418"),
        (429, Unreachable, "429"),
        (503, Unreachable, "503"),
    ],
)
async def test_each_refusal_is_told_in_words(tmp_path, stub, status, kind, words):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    stub.answer = answer
    async with opened(tmp_path, stub.host) as syncer:
        with pytest.raises(kind, match=words):
            await ensure(syncer, stub.host, tmp_path)


@pytest.mark.parametrize("body", [BODY + b" ", b"{}", b"", b"x" * (5 << 20)])
async def test_another_manifest_than_the_one_by_its_digest_is_refused(tmp_path, stub, body):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Docker-Content-Digest": DIGEST})

    stub.answer = answer
    async with opened(tmp_path, stub.host) as syncer:
        with pytest.raises(PluginError, match="env:1"):
            await ensure(syncer, stub.host, tmp_path)


async def test_the_manifest_of_another_image_is_refused(tmp_path, stub):
    other = Stored(
        version=Version(environment="env", number=1, digest="sha256:" + "2" * 64), locator=stored(stub.host).locator
    )
    async with opened(tmp_path, stub.host) as syncer:
        with pytest.raises(PluginError, match=r"env:1.*is image sha256:1111"):
            await syncer.ensure(other, Held(), tmp_path, silent)
        with pytest.raises(PluginError, match=r"env:1 is in registry other.lab:5000"):
            await syncer.ensure(stored("other.lab:5000"), Held(), tmp_path, silent)


async def test_a_registry_that_says_nothing_is_given_up(tmp_path, stub):
    end = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await end.wait()
        return web.Response()

    stub.answer = answer
    async with opened(tmp_path, stub.host, patience=0.05) as syncer:
        with pytest.raises(Unreachable, match="does not answer"):
            await ensure(syncer, stub.host, tmp_path)
        assert "does not answer" in (await syncer.probe()).problems[0]
    end.set()


async def test_a_registry_that_is_not_there_is_told(tmp_path, unused_tcp_port):
    async with opened(tmp_path, f"127.0.0.1:{unused_tcp_port}") as syncer:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await ensure(syncer, f"127.0.0.1:{unused_tcp_port}", tmp_path)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.2/secret", "127.0.0.2"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://[::ffff:127.0.0.1]/", "nobody is sent there"),
        ("http://localhost:9/", "cannot be reached"),
        ("file:///etc/passwd", "no safe address"),
        ("/v2/", "sends us around"),
    ],
)
@pytest.mark.parametrize("how", ["redirect", "realm"])
async def test_it_sends_us_nowhere(tmp_path, stub, location, words, how):
    async def answer(request: web.Request) -> web.StreamResponse:
        if how == "redirect" or location == "/v2/":
            return web.Response(status=307, headers={"Location": location})
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{location}",scope="x"'})

    stub.answer = answer
    async with opened(tmp_path, stub.host) as syncer:
        with pytest.raises((PluginError, Unreachable), match=words):
            await ensure(syncer, stub.host, tmp_path)


async def test_a_signed_address_is_not_told_to_everybody(tmp_path, stub):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "ftp://store.lab/blob?signature=secret"})

    stub.answer = answer
    async with opened(tmp_path, stub.host) as syncer:
        with pytest.raises(PluginError, match=r"sends us to ftp://store\.lab: that is no safe address"):
            await ensure(syncer, stub.host, tmp_path)


def test_addresses_where_nobody_may_send_us():
    from ipaddress import ip_address

    bad = ("127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "::ffff:10.0.0.1", "fd00:ec2::254", "224.0.0.1")
    assert [text for text in bad if not is_forbidden(ip_address(text))] == ["::ffff:10.0.0.1"]
    assert not is_forbidden(ip_address("10.77.0.1"))
    check_host("127.0.0.1", "127.0.0.1")


async def test_the_registrys_own_name_may_be_this_machine_and_no_other_may():
    resolver = GuardedResolver("localhost")
    assert await resolver.resolve("localhost", 80)
    other = GuardedResolver("registry.lab")
    with pytest.raises(OSError, match="this machine"):
        await other.resolve("localhost", 80)
    await resolver.close()
    await other.close()


@pytest.mark.parametrize(
    "config",
    [
        {"repository": "noslash"},
        {"repository": "ubuntu/env"},
        {"repository": "host:5000/UPPER"},
        {"repository": "-x:5000/../y"},
        {"username": "ada"},
        {"patience": 0},
        {"user": "ada"},
    ],
)
async def test_settings_that_are_none_are_refused(tmp_path, config):
    with pytest.raises(PluginError, match=r"plugins\.registry"):
        async with opened(tmp_path, "h:1", **config):
            pass


async def test_without_a_repository_it_says_what_to_set(tmp_path):
    async with opened(tmp_path, "h:1", repository="") as syncer:
        assert "[plugins.registry] repository" in (await syncer.probe()).problems[0]
        with pytest.raises(PluginError, match="no registry is set"):
            await ensure(syncer, "h:1", tmp_path)


@pytest.fixture
def open_registry(tmp_path) -> AsyncIterator[OciRegistry]:
    if reason := why_not():
        pytest.skip(reason)
    with a_registry(tmp_path / "oci") as registry:
        yield registry


async def test_a_real_registry_without_sign_in_takes_and_gives(tmp_path, open_registry):
    kit = RegistryKit(tmp_path, open_registry)
    package = kit.packages.add(b"layer", b"more")
    async with kit.open() as syncer:
        version = Version(environment="env", number=1, digest=package.digest)
        first = await syncer.publish(version, package, kit.packages, kit.folder(), silent)
        image = await syncer.ensure(first, Held(), kit.folder(), silent)
        await kit.check(image, package, Held())
        pushes = len(kit.steps.taken)
        assert await syncer.publish(version, package, kit.packages, kit.folder(), silent) == first
        assert len(kit.steps.taken) == pushes


async def test_what_another_has_put_into_the_registry_is_not_shown(tmp_path, open_registry):
    kit, other = RegistryKit(tmp_path, open_registry), RegistryKit(tmp_path, open_registry)
    package = kit.packages.add(b"layer")
    async with kit.open() as syncer, other.open() as theirs:
        version = Version(environment="env", number=1, digest=package.digest)
        await syncer.publish(version, package, kit.packages, kit.folder(), silent)
        assert await theirs.list() == []
        assert [one.version for one in await syncer.list()] == [version]
