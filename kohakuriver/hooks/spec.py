"""The hooks. A plugin is a module under the `kohakuriver` entry-point group that implements any of these.

A hook is added only together with a plugin that uses it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from kohakuriver.hooks.auth import AuthProvider
    from kohakuriver.hooks.backend import Backend
    from kohakuriver.hooks.syncer import Syncer

PROJECT = "kohakuriver"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def kohakuriver_api_version() -> int:
    """The version of this contract that the plugin was written for; asked first, another one disables the plugin."""
    raise NotImplementedError


@hookspec
def kohakuriver_backends() -> "Sequence[type[Backend]]":
    """The workload backends that this plugin brings. Vendor packages are imported in the backend's own module."""
    raise NotImplementedError


@hookspec
def kohakuriver_syncers() -> "Sequence[type[Syncer]]":
    """The ways for environments to reach nodes that this plugin brings. They are made on runners."""
    raise NotImplementedError


@hookspec
def kohakuriver_auth_providers() -> "Sequence[type[AuthProvider]]":
    """The ways to prove who one is that this plugin brings."""
    raise NotImplementedError
