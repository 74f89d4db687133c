"""Plugins are found, and broken ones are named and left out."""

import sys
import types
from importlib.metadata import EntryPoint, entry_points

import msgspec
import pytest

from kohakuriver.errors import Invalid
from kohakuriver.hooks.manager import PluginManager, decode_options, options_schema
from kohakuriver.hooks.spec import hookimpl
from kohakuriver.testing.fakes import FakeBackend


def backend_named(text: str) -> type[FakeBackend]:
    class Named(FakeBackend):
        name = text

    return Named


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch):
    """Makes a module with these hooks and gives its entry point."""

    def make(name: str, *, version=lambda: 1, **hooks) -> EntryPoint:
        module = types.ModuleType(f"plugin_{name}")
        if version is not None:
            hooks["api_version"] = version
        for hook, function in hooks.items():
            setattr(module, f"kohakuriver_{hook}", hookimpl(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name=name, value=module.__name__, group="kohakuriver")

    return make


def test_the_built_in_ones_are_found_like_a_strangers() -> None:
    manager = PluginManager()
    (process,) = [found for found in manager.list() if found.name == "process"]
    assert (process.state, process.problem, process.backends, process.api_version) == ("enabled", None, ("process",), 1)
    assert process.distribution.startswith("kohakuriver ")
    assert "process" in manager.backends()
    assert [found.name for found in manager.list()] == sorted(
        {point.name for point in entry_points(group="kohakuriver")}
    )


def test_a_disabled_one_is_not_even_imported(plugin) -> None:
    point = EntryPoint(name="off", value="module_that_does_not_exist", group="kohakuriver")
    manager = PluginManager(["off"], [point])
    (found,) = manager.list()
    assert (found.state, found.problem) == ("disabled", None)
    assert "module_that_does_not_exist" not in sys.modules


def test_one_that_cannot_be_imported_is_kept_with_its_problem() -> None:
    manager = PluginManager(points=[EntryPoint(name="bad", value="module_that_does_not_exist", group="kohakuriver")])
    (found,) = manager.list()
    assert found.state == "broken"
    assert "module_that_does_not_exist" in found.problem


def explode():
    raise RuntimeError("boom")


def never_asked():
    raise AssertionError("asked before the version was known")


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"version": lambda: 2, "backends": never_asked}, "version 2"),
        ({"version": lambda: "1"}, "must be implemented"),
        ({"version": None}, "must be implemented"),
        ({"version": explode}, "boom"),
        ({"backends": explode}, "boom"),
        ({"backends": lambda: FakeBackend}, "must return a list"),
        ({"backends": lambda: "fake"}, "must return a list"),
        ({"backends": lambda: [FakeBackend()]}, "must return Backend classes"),
        ({"backends": lambda: [int]}, "must return Backend classes"),
        ({"backends": lambda: [type("Half", (FakeBackend,), {"name": ""})]}, "no name"),
        ({"backends": lambda: [type("Half", (FakeBackend,), {"Options": dict})]}, "msgspec struct"),
        ({"backends": lambda surprise: []}, "surprise"),
        ({"backendz": lambda: None}, "kohakuriver_backendz"),
        ({"auth_providers": lambda: [FakeBackend]}, "must return AuthProvider classes"),
    ],
)
def test_a_broken_one_is_named_and_the_others_work(plugin, hooks, words: str) -> None:
    good = plugin("good", backends=lambda: [FakeBackend])
    manager = PluginManager(points=[plugin("bad", **hooks), good])
    bad, fine = manager.list()
    assert bad.state == "broken"
    assert words in bad.problem
    assert bad.backends == bad.providers == ()
    assert (fine.state, dict(manager.backends())) == ("enabled", {"fake": FakeBackend})


def test_an_abstract_backend_is_refused_with_what_it_lacks(plugin) -> None:
    from kohakuriver.hooks.backend import Backend

    half = type("Half", (Backend,), {"name": "half", "Options": msgspec.Struct})
    (found,) = PluginManager(points=[plugin("half", backends=lambda: [half])]).list()
    assert "Half lacks" in found.problem
    assert "remove" in found.problem


def test_two_backends_of_one_name_both_origins_are_named(plugin) -> None:
    first, second = backend_named("x"), backend_named("x")
    points = [plugin("a", backends=lambda: [first]), plugin("b", backends=lambda: [second, FakeBackend])]
    manager = PluginManager(points=points)
    a, b = manager.list()
    assert dict(manager.backends()) == {"x": first, "fake": FakeBackend}
    assert (a.problem, a.backends, b.state, b.backends) == (None, ("x",), "enabled", ("fake",))
    assert "'x' of b" in b.problem
    assert "a (" in b.problem


def test_options_become_the_plugins_own_struct() -> None:
    assert decode_options(FakeBackend, {"colour": "red"}) == FakeBackend.Options(colour="red")
    assert decode_options(FakeBackend, {}) == FakeBackend.Options()
    assert "colour" in str(options_schema(FakeBackend))


class Loose(msgspec.Struct):
    depth: int = 0


@pytest.mark.parametrize(
    ("options", "field"),
    [({"dpeth": 1}, "options.dpeth"), ({"depth": "1"}, "options.depth"), ({"depth": True}, "options.depth")],
)
def test_wrong_options_are_refused_with_their_path(options, field: str) -> None:
    loose = type("LooseBackend", (FakeBackend,), {"Options": Loose})
    with pytest.raises(Invalid) as caught:
        decode_options(loose, options)
    assert caught.value.field == field


def test_syncers_are_kept_by_name_and_a_second_of_a_name_is_refused(plugin) -> None:
    from kohakuriver_direct.syncer import DirectSyncer

    class Other(DirectSyncer):
        """Has the same name."""

    manager = PluginManager(
        points=[
            plugin("a", syncers=lambda: [DirectSyncer]),
            plugin("b", syncers=lambda: [Other]),
            plugin("c", syncers=lambda: [str]),
        ]
    )
    a, b, c = manager.list()
    assert (a.syncers, a.problem, b.syncers) == (("direct",), None, ())
    assert "syncer 'direct'" in b.problem
    assert (c.state, dict(manager.syncers())) == ("broken", {"direct": DirectSyncer})
