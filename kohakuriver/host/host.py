"""The host's parts, made once and passed along. Knows no HTTP."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kohakuriver.hooks.manager import PluginManager
from kohakuriver.host.archive import Archive
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.board import Board
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.commits import Commits
from kohakuriver.host.dependencies import Dependencies
from kohakuriver.host.dispatch import Dispatch
from kohakuriver.host.environments.parts import Environments
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.link import Links
from kohakuriver.host.owners import Owners
from kohakuriver.host.preparing import Preparing
from kohakuriver.host.reports import Reports
from kohakuriver.host.roster import Roster
from kohakuriver.host.scheduler import Scheduler
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.streams import Streams
from kohakuriver.host.threads import Threads
from kohakuriver.host.turns import Turns
from kohakuriver.host.waiting import Ends
from kohakuriver.host.waits import Waits
from kohakuriver.store.open import Store


@dataclass(kw_only=True)
class Host:
    """Everything that the use cases need."""

    settings: HostSettings
    store: Store
    clock: Clock
    ids: Ids
    group: asyncio.TaskGroup
    threads: Threads
    plugins: PluginManager | None
    commits: Commits
    board: Board
    roster: Roster
    owners: Owners
    changes: Changes
    ends: Ends
    ledger: Ledger
    scheduler: Scheduler
    dependencies: Dependencies
    dispatch: Dispatch
    reports: Reports
    streams: Streams
    blobs: Blobs
    archive: Archive
    links: Links
    waits: Waits
    environments: Environments
    preparing: Preparing
    #: of those who ask what would become of tasks
    foresight: Turns
    loops: list[asyncio.Task[None]] = field(default_factory=list)
    #: what other use cases keep in memory between requests, by its own type
    kept: dict[type, Any] = field(default_factory=dict)
