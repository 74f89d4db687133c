"""What the host keeps of environments, made once. The use cases beside this file are given the whole host."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kohakuriver.host.board import Board
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.environments.asks import Asker
from kohakuriver.host.environments.builder import builder_of
from kohakuriver.host.environments.catalog import Catalog
from kohakuriver.host.environments.contents import Contents
from kohakuriver.host.environments.operations import Operation, Operations
from kohakuriver.host.environments.waiting import Waiting
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.roster import Member, Roster
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.streams import Streams
from kohakuriver.host.threads import Threads
from kohakuriver.store.environments import all_environments, all_versions
from kohakuriver.store.reader import Reader
from kohakuriver.wire.link import WireVersion


@dataclass(kw_only=True)
class Making:
    """The default environment while it is being made."""

    #: the number that was set aside for it; None: it is not being made
    number: int | None = None
    operation: Operation | None = None
    #: held by who sets a number aside
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(kw_only=True)
class Environments:
    """The parts."""

    settings: HostSettings
    roster: Roster
    catalog: Catalog
    operations: Operations
    contents: Contents
    asker: Asker
    waiting: Waiting
    making: Making = field(default_factory=Making)
    #: containers that are still to be made anew of the version that they became, by name
    unsettled: dict[str, WireVersion] = field(default_factory=dict)
    #: builders that are still to tidy up after an operation that failed
    unswept: set[int] = field(default_factory=set)

    def builder(self) -> Member:
        """The node that keeps the containers. Raises NoBuilder that says what to set."""
        return builder_of(self.roster, named=self.settings.builder, boot=self.settings.boot)

    def close(self) -> None:
        """Ends what is under way."""
        self.operations.close()


async def open_environments(
    *,
    settings: HostSettings,
    reader: Reader,
    group: asyncio.TaskGroup,
    threads: Threads,
    clock: Clock,
    ids: Ids,
    changes: Changes,
    roster: Roster,
    board: Board,
    ledger: Ledger,
    streams: Streams,
    woken: Callable[[], None],
) -> Environments:
    """Reads what there is. Starts nothing; `woken` is called when tasks may start."""
    catalog = Catalog(await all_environments(reader), await all_versions(reader))
    contents = Contents(settings.data_dir / "environments", threads.content, floor=settings.disk_floor)
    await contents.open()
    return Environments(
        settings=settings,
        roster=roster,
        catalog=catalog,
        operations=Operations(group, clock, ids, changes),
        contents=contents,
        asker=Asker(streams, roster),
        waiting=Waiting(board, ledger, catalog, woken),
    )
