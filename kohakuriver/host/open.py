"""Makes the host from its store: reads what is open into memory and ties the parts together."""

import asyncio
from collections.abc import Sequence

from kohakuriver.domain.strategies import STRATEGIES
from kohakuriver.hooks.manager import PluginManager
from kohakuriver.host.archive import Archive
from kohakuriver.host.blobs import Blobs
from kohakuriver.host.board import Board
from kohakuriver.host.changes import Changes
from kohakuriver.host.clock import Clock, Ids
from kohakuriver.host.commits import Commits
from kohakuriver.host.dependencies import Dependencies
from kohakuriver.host.dispatch import Dispatch
from kohakuriver.host.environments.base import resume_base, run_base
from kohakuriver.host.environments.connected import builder_connected
from kohakuriver.host.environments.parts import open_environments
from kohakuriver.host.host import Host
from kohakuriver.host.ledger import Ledger
from kohakuriver.host.link import Links
from kohakuriver.host.liveness import Liveness
from kohakuriver.host.owners import Owners, person_of
from kohakuriver.host.preparing import Preparing
from kohakuriver.host.reports import Reports
from kohakuriver.host.retention import Retention
from kohakuriver.host.returned import Returned
from kohakuriver.host.roster import Member, Roster
from kohakuriver.host.scheduler import Scheduler
from kohakuriver.host.settings import HostSettings
from kohakuriver.host.stock import Stock
from kohakuriver.host.streams import Streams
from kohakuriver.host.threads import Threads
from kohakuriver.host.turns import Turns
from kohakuriver.host.waiting import Ends
from kohakuriver.host.waits import Waits
from kohakuriver.store.accounts import all_users
from kohakuriver.store.nodes import EnrolledNode, all_nodes
from kohakuriver.store.open import Store
from kohakuriver.store.tasks import highest_id, open_tasks, reservations
from kohakuriver.wire.link import Dial, Held


async def open_host(
    settings: HostSettings, store: Store, *, clock: Clock, group: asyncio.TaskGroup, plugins: PluginManager | None
) -> Host:
    """Every part, with the open tasks, the nodes and the names of people read in. Starts no loop."""
    board, roster, changes, ends = Board(), await _roster(store), Changes(), Ends()
    owners, ids = await _owners(store, settings), Ids(clock, last=await highest_id(store.reader))
    await _fill(board, store)
    threads = Threads()
    commits = Commits(group, store.writer)
    ledger = Ledger(
        reader=store.reader, commits=commits, board=board, changes=changes, ends=ends, clock=clock, ids=ids,
        limits=owners,
    )  # fmt: skip
    dispatch = Dispatch(board=board, roster=roster, clock=clock, owner=owners.name)
    strategy = STRATEGIES[settings.placement]
    scheduler = Scheduler(board=board, roster=roster, ledger=ledger, clock=clock, limits=owners, strategy=strategy)
    dependencies = await _dependencies(store, board, ledger, scheduler)
    waits = Waits()
    preparing = Preparing(board)
    ledger.followers += [dispatch.follow, dependencies.follow, scheduler.follow, waits.follow, preparing.follow]
    streams = Streams(lambda node, message: _dial(roster, node, message))
    environments = await open_environments(
        settings=settings, reader=store.reader, group=group, threads=threads, clock=clock, ids=ids, changes=changes,
        roster=roster, board=board, ledger=ledger, streams=streams, woken=scheduler.wake,
    )  # fmt: skip
    ledger.followers.append(environments.waiting.follow)
    dispatch.environment = environments.catalog.told
    scheduler.blocked = lambda: {**environments.waiting.reasons(), **dependencies.reasons()}
    blobs = Blobs(settings.data_dir / "output", threads.file)
    archive = Archive(group=group, reader=store.reader, commits=commits, streams=streams, blobs=blobs, board=board)
    reports = Reports(ledger, scheduler.refill, scheduler.withdraw, archive.complete)
    links = Links(
        settings=settings,
        cluster=store.cluster,
        incarnation=store.incarnation,
        clock=clock,
        ids=ids,
        commits=commits,
        changes=changes,
        dispatch=dispatch,
        reports=reports,
        stock=Stock(clock=clock, ids=ids, commits=commits, changes=changes, woken=scheduler.wake),
        streams=streams,
        preparing=preparing,
        woken=scheduler.wake,
        returned=Returned(store.reader, ledger).sort_out,
        ended=archive.ended,
        held=archive.held,
    )
    host = Host(
        settings=settings, store=store, clock=clock, ids=ids, group=group, threads=threads, plugins=plugins,
        commits=commits, board=board, roster=roster, owners=owners, changes=changes, ends=ends, ledger=ledger,
        scheduler=scheduler, dependencies=dependencies, dispatch=dispatch, reports=reports, streams=streams,
        blobs=blobs, archive=archive, links=links, waits=waits, foresight=Turns(clock),
        environments=environments, preparing=preparing,
    )  # fmt: skip
    links.held = lambda member, held: _held(host, member, held)
    resume_base(host)
    return host


def run_host(host: Host) -> None:
    """Starts the host's loops in its group; one that dies takes the role down."""
    liveness = Liveness(
        roster=host.roster,
        ledger=host.ledger,
        changes=host.changes,
        clock=host.clock,
        lost_after=host.settings.lost_after,
        margin=host.settings.lease_margin,
    )
    retention = Retention(
        reader=host.store.reader,
        commits=host.commits,
        blobs=host.blobs,
        clock=host.clock,
        output_days=host.settings.output_days,
    )
    loops = (host.scheduler.run(), host.dependencies.run(), host.dispatch.run(), liveness.run(), retention.run())
    for loop in (*loops, host.environments.waiting.run(), run_base(host)):
        host.loops.append(host.group.create_task(loop))


def close_host(host: Host) -> None:
    """Ends loops, sessions, streams and subscriptions. The store is closed by who opened it."""
    for loop in host.loops:
        loop.cancel()
    host.environments.close()
    host.archive.close()
    host.links.close()
    host.streams.close()
    host.changes.close()
    host.threads.close()


async def _held(host: Host, member: Member, held: Sequence[Held]) -> None:
    """What follows on a new session, beside it: first the output that the node still has."""
    await host.archive.held(member, held)
    await builder_connected(host, member)


async def _fill(board: Board, store: Store) -> None:
    held = await reservations(store.reader)
    for task in await open_tasks(store.reader):
        board.put(task, held.get((task.id, task.generation)))


async def _dependencies(store: Store, board: Board, ledger: Ledger, scheduler: Scheduler) -> Dependencies:
    dependencies = Dependencies(store.reader, board, ledger, scheduler.wake)
    await dependencies.open()
    return dependencies


async def _owners(store: Store, settings: HostSettings) -> Owners:
    users = await all_users(store.reader)
    return Owners({user.id: person_of(user) for user in users}, settings.most_held)


async def _roster(store: Store) -> Roster:
    return Roster([_member(node) for node in await all_nodes(store.reader)])


def _member(node: EnrolledNode) -> Member:
    """A node as recorded; nothing of it is live yet."""
    member = Member(
        id=node.id,
        name=node.name,
        revoked=node.revoked,
        draining=node.draining,
        drain_reason=node.drain_reason,
        quarantine=node.quarantine,
        labels=node.labels,
        given=node.given,
        cordons=node.cordons,
        epoch=node.epoch,
        boot=node.boot,
        version=node.version,
        acknowledged=node.acknowledged,
        allocation=node.allocation,
        created=node.created,
    )
    member.learn(node.cells, node.backends)
    return member


def _dial(roster: Roster, node: int, message: Dial) -> bool:
    member = roster.get(node)
    if member is None or member.session is None or not member.session.live:
        return False
    member.session.send(message)
    return True
