"""Which backend a submission means, and who may give which option."""

import pytest

from kohakuriver.domain.access import Actor, How, Role, Scope
from kohakuriver.errors import Invalid, NotAllowed, NotFound
from kohakuriver.testing.runners import add_node
from kohakuriver.wire.link import BackendInfo

from .kit import stored, submit, told

SCHEMA = {
    "$ref": "#/$defs/Options",
    "$defs": {
        "Options": {
            "properties": {
                "privileged": {"x-operator": True, "type": "boolean"},
                "network": {"x-operator": ["host"]},
                "mounts": {"type": "array"},
            }
        }
    },
}
PLAIN = BackendInfo(name="process")
BOXES = BackendInfo(name="boxes", images=["oci"], options=SCHEMA)


@pytest.fixture
async def connect(host):
    async def use(*backends: BackendInfo) -> None:
        peer = await add_node(host)
        peer.backends = list(backends)
        await peer.connect()

    return use


async def meant(host, actor, **fields) -> str | None:
    (task,) = await submit(host, actor, **fields)
    return (await stored(host, task)).spec.backend


async def test_an_image_means_the_backend_that_takes_one(host, ann, connect):
    await connect(PLAIN, BOXES)
    assert await meant(host, ann, image="debian:12") == "boxes"
    assert await meant(host, ann, image="debian:12", backend="boxes") == "boxes"
    with pytest.raises(Invalid, match="runs images"):
        await submit(host, ann, image="debian:12", backend="process")


async def test_neither_image_nor_container_means_a_plain_process(host, ann, connect):
    await connect(PLAIN, BOXES)
    assert await meant(host, ann) == "process"


async def test_where_all_take_any_backend_none_is_named(host, ann, connect):
    await connect(PLAIN)
    assert await meant(host, ann) is None


async def test_where_containers_alone_run_an_image_is_asked_for(host, ann, connect):
    await connect(BackendInfo(name="process", usable=False, problems=["off"]), BOXES)
    with pytest.raises(Invalid, match="which image"):
        await submit(host, ann)


async def test_an_environment_that_is_not_there_is_told_with_those_that_are(host, ann, connect):
    await connect(BOXES)
    with pytest.raises(NotFound, match="no environment torch; there is none yet"):
        await submit(host, ann, container="torch")


async def test_an_image_and_an_environment_exclude_each_other(host, ann, connect):
    await connect(BOXES)
    with pytest.raises(Invalid, match="one of them"):
        await submit(host, ann, container="torch", image="debian:12")


@pytest.mark.parametrize("image", ["--privileged", "a b", "http://x/y"])
async def test_what_is_no_image_reference_is_refused(host, ann, connect, image):
    await connect(BOXES)
    with pytest.raises(Invalid, match="no image reference"):
        await submit(host, ann, image=image)


@pytest.mark.parametrize(
    "options", [{"privileged": True}, {"privileged": "true"}, {"privileged": 1}, {"network": "host"}]
)
@pytest.mark.parametrize("named", [None, "boxes"])
async def test_marked_options_are_for_operators(host, ann, boss, connect, options, named):
    await connect(PLAIN, BOXES)
    with pytest.raises(NotAllowed, match=f"option {min(options)}: .*operator"):
        await submit(host, ann, image="debian:12", backend=named, options=options)
    (task,) = await submit(host, boss, image="debian:12", backend=named, options=options)
    assert (await stored(host, task)).spec.options == options
    assert await told(host, task) == ["submitted"]


@pytest.mark.parametrize("options", [{"privileged": False}, {"network": "none"}, {"mounts": ["/a:/b"]}, {"unheard": 1}])
async def test_other_options_are_for_everybody(host, ann, connect, options):
    await connect(PLAIN, BOXES)
    assert await meant(host, ann, image="debian:12", options=options) == "boxes"


async def test_a_token_without_the_scope_gives_no_marked_option(host, boss, connect):
    await connect(BOXES)
    token = Actor(id=boss.id, name="boss", role=Role.OPERATOR, how=How.TOKEN, scopes=frozenset({Scope.TASKS}))
    with pytest.raises(NotAllowed, match="scope operate"):
        await submit(host, token, image="debian:12", options={"privileged": True})


async def test_one_node_that_marks_it_is_enough(host, ann, connect):
    """Two nodes announce the same name; the one that a task would come to decides nothing here."""
    await connect(BOXES)
    other = await add_node(host, "node2")
    other.backends = [BackendInfo(name="boxes", images=["oci"])]
    await other.connect()
    with pytest.raises(NotAllowed):
        await submit(host, ann, image="debian:12", options={"privileged": True}, targets=["node2"])


async def test_options_that_nobody_can_check_are_for_operators(host, ann, boss):
    await add_node(host)
    with pytest.raises(Invalid, match="told of"):
        await submit(host, ann, options={"privileged": True})
    assert await submit(host, boss, options={"privileged": True})
