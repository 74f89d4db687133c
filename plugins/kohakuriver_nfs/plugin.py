"""The plugin's hooks: one syncer, a directory that every node mounts."""

from collections.abc import Sequence

from kohakuriver.hooks.spec import hookimpl
from kohakuriver.hooks.syncer import Syncer
from kohakuriver.hooks.values import API_VERSION
from kohakuriver_nfs.syncer import NfsSyncer


@hookimpl
def kohakuriver_api_version() -> int:
    return API_VERSION


@hookimpl
def kohakuriver_syncers() -> Sequence[type[Syncer]]:
    return [NfsSyncer]
