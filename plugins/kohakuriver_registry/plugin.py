"""The plugin's hooks: one syncer, an OCI registry."""

from collections.abc import Sequence

from kohakuriver.hooks.spec import hookimpl
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.hooks.values import API_VERSION
from kohakuriver_registry.syncer import RegistrySyncer


@hookimpl
def kohakuriver_api_version() -> int:
    return API_VERSION


@hookimpl
def kohakuriver_syncers() -> Sequence[type[Syncer]]:
    return [RegistrySyncer]
