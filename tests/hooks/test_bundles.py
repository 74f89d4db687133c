"""Bundles: what was written is read again, and nothing that is not what it says passes for it."""

import hashlib
import json

import pytest

from kohakuriver.errors import PluginError
from kohakuriver.hooks import bundles
from kohakuriver.hooks.packages import Held, Layer, Package, chain


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


LAYERS = (b"first " * 100_000, b"second", b"")


def package(layers=LAYERS):
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]}}).encode()
    return Package(
        digest=digest_of(config),
        config=config,
        layers=tuple(Layer(digest=digest_of(data), size=len(data)) for data in layers),
    )


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    made = package()
    bundles.write_index(tmp_path, made)
    for data in LAYERS[:2]:
        packed = bundles.pack(tmp_path, digest_of(data), [data[:10], data[10:]])
        assert packed == bundles.blob(tmp_path, digest_of(data)).stat().st_size
    assert bundles.read_index(tmp_path) == made
    assert bundles.carried(tmp_path, made) == {digest_of(data) for data in LAYERS[:2]}
    for data in LAYERS[:2]:
        path = bundles.blob(tmp_path, digest_of(data))
        assert b"".join(bundles.unpack(path)) == data
        assert bundles.verify(path, digest_of(data), len(data)) == len(data)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_packing_again_keeps_what_is_there(tmp_path):
    size = bundles.pack(tmp_path, digest_of(b"x"), [b"x"])
    assert bundles.pack(tmp_path, digest_of(b"x"), iter(())) == size


def test_another_content_than_its_digest_leaves_nothing(tmp_path):
    with pytest.raises(PluginError, match="not the layer"):
        bundles.pack(tmp_path, digest_of(b"x"), [b"y"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:../" + "0" * 61, "SHA256:" + "0" * 64]
)
def test_what_is_no_digest_names_no_file(tmp_path, name):
    with pytest.raises(PluginError, match="no SHA-256 digest"):
        bundles.blob(tmp_path, name)


def spoil_cut(data):
    return data[: len(data) // 2]


def spoil_swapped(data):
    return bundles.zstandard.compress(b"another")


def spoil_more(data):
    return bundles.zstandard.compress(LAYERS[0] + b"x")


def spoil_garbage(data):
    return b"\x00" * 100


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_swapped, spoil_more, spoil_garbage])
def test_a_spoilt_layer_is_refused(tmp_path, spoil):
    bundles.pack(tmp_path, digest_of(LAYERS[0]), [LAYERS[0]])
    path = bundles.blob(tmp_path, digest_of(LAYERS[0]))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(PluginError):
        bundles.verify(path, digest_of(LAYERS[0]), len(LAYERS[0]))


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(digest=digest_of(b"another")),
        lambda index: index["layers"].pop(),
        lambda index: index["layers"].reverse(),
        lambda index: index["layers"][0].update(digest="sha256:../../x"),
        lambda index: index["layers"][0].update(size=-1),
        lambda index: index["layers"][0].update(size="many"),
        lambda index: index.pop("layers"),
        lambda index: index.update(layers="all"),
    ],
)
def test_an_index_that_is_not_of_its_configuration_is_refused(tmp_path, change):
    bundles.write_index(tmp_path, package())
    index = json.loads((tmp_path / bundles.INDEX).read_bytes())
    change(index)
    (tmp_path / bundles.INDEX).write_text(json.dumps(index))
    with pytest.raises(PluginError):
        bundles.read_index(tmp_path)


@pytest.mark.parametrize("config", [b"", b"{}", b'{"rootfs": 3}', b"\xff", b'{"rootfs": {"diff_ids": []}}'])
def test_a_configuration_without_layers_is_refused(config):
    with pytest.raises(PluginError, match="layers"):
        bundles.check(Package(digest=digest_of(config), config=config, layers=()))


def test_a_chain_names_a_layer_with_all_below_it():
    made = package()
    first, second, third = (layer.digest for layer in made.layers)
    assert made.chains == (first, chain(first, second), chain(chain(first, second), third))
    assert Held(chains=frozenset(made.chains[:1])).lacks(made) == made.layers[1:]
    assert Held(chains=frozenset({second})).lacks(made) == made.layers
