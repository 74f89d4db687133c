"""The link: order, reconnecting, fencing, reports that survive, and what a strange host may say."""

import asyncio

from aiohttp import web

from kohakuriver.runner.clock import heed_cancellation
from kohakuriver.runner.link import backoff
from kohakuriver.wire.link import (
    Ack,
    Dial,
    DialFailed,
    Heartbeat,
    Hello,
    Inventory,
    Refused,
    Report,
    Unsupported,
    Welcome,
)


async def test_hello_comes_first_then_inventory_and_reports_only_when_live(lab, peer):
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    kinds = [type(message) for message in peer.received]
    assert kinds[:2] == [Hello, Inventory]
    assert kinds.index(Report) > kinds.index(Inventory)
    hello = peer.hellos[0]
    assert (hello.boot, hello.cells[0].cpus, hello.cluster) == ("boot-1", [0, 1, 2, 3], "cluster-1")
    assert [backend.name for backend in hello.backends] == ["fake"]
    assert hello.backends[0].capabilities == ["CanPause"]
    assert "colour" in str(hello.backends[0].options)


async def test_heartbeats_come_and_name_what_no_probe_can_tell(lab, peer):
    await lab.start()
    await lab.hands.pass_time(11)
    beat = await peer.message(Heartbeat, count=2)
    assert beat.memory_total > 0
    assert beat.disk_total > 0
    assert beat.temperature is not None or "temperature" in beat.missing


async def test_reports_that_were_not_acknowledged_come_again_in_order(lab, peer):
    peer.acknowledge = False
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    first = [message.seq for message in peer.received if isinstance(message, Report)]
    before = len(peer.received)
    await lab.relink()
    await peer.until(lambda: len([m for m in peer.received[before:] if isinstance(m, Report)]) == len(first))
    again = [message.seq for message in peer.received[before:] if isinstance(message, Report)]
    assert again == first == sorted(first)


async def test_reports_survive_the_runner_and_are_dropped_once_acknowledged(lab, peer):
    peer.acknowledge = False
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    await lab.die()
    peer.reports.clear()
    peer.assigned.clear()
    peer.acknowledge = True
    await lab.start()
    await peer.report("7.1", "exited")
    await lab.gone("7.1")
    await lab.acknowledged()
    assert await lab.runner.journal._database.read("SELECT count(*) FROM outbox") == [(0,)]


async def test_what_the_host_committed_without_an_ack_is_not_sent_again(lab, peer):
    peer.acknowledge = False
    await lab.start()
    await peer.assign("7.1", "say", "", "", "0")
    last = await peer.report("7.1", "exited")
    peer.acknowledged[peer.hellos[-1].epoch] = last.seq
    before = len(peer.received)
    await lab.relink()
    await lab.gone("7.1")
    assert not [message for message in peer.received[before:] if isinstance(message, Report)]


async def test_an_older_copy_of_the_journal_begins_a_new_epoch(lab, peer):
    await lab.start()
    epoch = peer.hellos[0].epoch
    await lab.die()
    peer.acknowledged[epoch] = 500
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 2)
    await lab.dialled(3)
    await lab.until_live()
    assert peer.hellos[2].epoch > epoch
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")


async def test_an_acknowledgement_of_what_was_never_sent_ends_the_session_and_loses_nothing(lab, peer):
    peer.acknowledge = False
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await peer.send(Ack(seq=9999))
    await lab.dialled(2)
    await lab.until_live()
    assert len(lab.runner.journal.outbox) == 2


async def test_a_host_of_another_cluster_is_not_obeyed(lab, peer):
    await lab.start()
    await lab.die()
    peer.cluster = "cluster-2"
    peer.assigned["7.1"] = await peer_assignment(peer)
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 2)
    await lab.dialled(3)
    assert len(peer.inventories) == 1
    assert not lab.world.bodies


async def test_a_host_with_an_older_incarnation_is_not_obeyed_and_a_newer_one_is_kept(lab, peer):
    peer.incarnation = 4
    await lab.start()
    assert lab.runner.journal.incarnation == 4
    await lab.die()
    peer.incarnation = 3
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 2)
    assert peer.hellos[-1].incarnation == 4
    await lab.hands.pass_time(5)
    assert len(peer.inventories) == 1


async def test_a_node_that_was_joined_again_takes_its_new_host(lab, peer):
    peer.incarnation = 4
    await lab.start()
    await lab.die()
    peer.incarnation, peer.cluster = 1, "cluster-2"
    await lab.start(credential="another", cluster="cluster-2")
    assert (lab.runner.journal.cluster, lab.runner.journal.incarnation) == ("cluster-2", 1)


async def test_a_message_that_is_too_large_ends_the_session(lab, peer):
    await lab.start()
    await peer.socket.send_str('{"t": "dance", "x": "' + "x" * 300_000 + '"}')
    await lab.dialled(2)
    await lab.until_live()


async def test_the_link_runs_over_tls_with_the_pinned_certificate_alone(lab, peer, certificate):
    context, fingerprint = certificate
    node, host = lab, type(peer)()
    await host.start(context)
    node.peer = host
    await node.start(fingerprint=fingerprint)
    await host.assign("7.1", "say", "", "", "0")
    await host.report("7.1", "exited")
    await node.stop()
    host.hellos.clear()
    node.make(fingerprint="00" * 32)
    await node.start(live=False)
    await node.hands.pass_time(70)
    assert not host.hellos
    await node.stop()
    await host.close()


async def peer_assignment(peer):
    return await peer.assign("7.1", "sleep", send=False)


async def test_a_final_refusal_stops_the_dialing_and_touches_nothing(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    peer.on_hello = lambda _: Refused(code="revoked", reason="revoked by an operator", final=True)
    await peer.drop()
    await lab.dialled(2)
    await lab.hands.pass_time(100)
    assert len(peer.hellos) == 2
    assert lab.world.bodies["7.1"].phase == "running"
    assert not lab.task.done()


async def test_a_superseded_session_waits_before_it_dials_again(lab, peer):
    await lab.start()
    await peer.send(Refused(code="superseded", reason="a newer session of this node"))
    await lab.hands.pass_time(10)
    assert len(peer.hellos) == 1
    await lab.dialled(2)


async def test_a_busy_host_is_asked_again_after_the_time_it_names(lab, peer):
    peer.handshake = lambda _: web.Response(status=503, headers={"Retry-After": "20"})
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 1)
    await lab.hands.pass_time(25)
    assert len(peer.hellos) == 1
    peer.handshake = None
    await lab.hands.pass_time(10)
    await lab.until_live()


async def test_an_unknown_credential_is_tried_once_a_minute(lab, peer):
    peer.handshake = lambda _: web.Response(status=401)
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 1)
    await lab.hands.pass_time(55)
    assert len(peer.hellos) == 1
    await lab.dialled(2)


async def test_an_unknown_message_is_answered_and_the_session_goes_on(lab, peer):
    await lab.start()
    await peer.socket.send_str('{"t": "dance", "tempo": 120}')
    assert (await peer.message(Unsupported)).message == "dance"
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    assert len(peer.hellos) == 1


async def test_unknown_fields_are_ignored(lab, peer):
    await lab.start()
    await peer.socket.send_str('{"t": "wanted", "wishes": [], "mood": "good"}')
    await peer.assign("7.1", "say", "", "", "0")
    await peer.report("7.1", "exited")
    assert not [message for message in peer.received if isinstance(message, Unsupported)]


async def test_an_assignment_that_cannot_be_read_is_refused_for_good(lab, peer):
    await lab.start()
    await peer.socket.send_str('{"t": "assign", "attempt": "7.1", "instance": "7.1", "owner": "ann", "reserved": 5}')
    report = await peer.report("7.1", "refused_for_good")
    assert "cannot be read" in report.reason
    assert "assign: " in (await peer.message(Unsupported)).message


async def test_a_name_that_is_a_path_is_not_taken(lab, peer):
    await lab.start()
    await peer.assign("../../7.1", "sleep")
    await peer.assign("8.1", "say", "", "", "0")
    await peer.report("8.1", "exited")
    assert not peer.of("../../7.1")
    assert set(lab.world.started) == {"8.1"}


async def test_a_hundred_unreadable_messages_end_the_session(lab, peer):
    await lab.start()
    for _ in range(100):
        await peer.socket.send_str("{nonsense")
    await lab.dialled(2)


async def test_orders_before_the_welcome_are_not_obeyed(lab, peer):
    assignment = await peer_assignment(peer)
    peer.assigned.clear()
    peer.on_hello = lambda _: assignment
    await lab.start(live=False)
    await peer.until(lambda: len(peer.hellos) == 1)
    await lab.dialled(2)
    assert not lab.world.bodies


async def test_a_silent_host_is_given_up_after_fifteen_seconds(lab, peer):
    await lab.start()
    lab.hands.advance(16)
    await lab.dialled(2)


async def test_a_dial_for_what_is_not_held_is_answered(lab, peer):
    await lab.start()
    await peer.send(Dial(ticket="t1", kind="output", attempt="7.1"))
    failed = await peer.message(DialFailed)
    assert (failed.ticket, failed.reason) == ("t1", "attempt 7.1 is not held here")


async def test_the_inventory_is_paged(lab, peer, monkeypatch):
    monkeypatch.setattr("kohakuriver.runner.session.PAGE", 2)
    lab.cells[0].cpus = list(range(16))
    await lab.start()
    for number in range(5):
        await peer.assign(f"{number}.1", "sleep")
    for number in range(5):
        await peer.report(f"{number}.1", "started")
    await lab.relink()
    assert [len(page.held) for page in peer.inventories[-3:]] == [2, 2, 1]
    assert [page.last for page in peer.inventories[-3:]] == [False, False, True]


def test_waiting_is_spread_grows_and_is_bounded():
    assert (backoff(0, 0.0), backoff(0, 1.0)) == (0.1, 0.30000000000000004)
    assert backoff(1, 1.0) == 0.4
    assert [backoff(tries, 1.0) for tries in (3, 10, 1000)] == [1.6, 15.0, 15.0]
    assert backoff(10, 0.0) == 0.0


async def test_the_welcome_of_the_first_host_is_kept(lab, peer):
    lab.make(cluster="")
    peer.cluster = "first"
    await lab.start()
    assert lab.runner.journal.cluster == "first"


async def test_a_host_that_welcomes_twice_is_left(lab, peer):
    await lab.start()
    await peer.send(Welcome(cluster="cluster-1", incarnation=1, session="x", node="n1"))
    await lab.dialled(2)


async def test_the_link_is_there_again_soon_after_it_was_lost(lab, peer):
    await lab.start()
    await peer.drop()
    async with asyncio.timeout(60):
        while len(peer.hellos) < 2:
            lab.hands.advance(0.05)
            await asyncio.sleep(0.05)
    assert lab.hands.now - 1000 < 10, "sooner than silence would tell"


async def test_a_restored_host_is_told_what_stands_here(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep", owner="ann")
    await peer.report("7.1", "started")
    await peer.assign("8.1", "sleep")
    await peer.report("8.1", "started")
    await peer.wish("8.1", "paused", 1)
    await peer.report("8.1", "paused")
    await lab.acknowledged()
    assert "recovered" not in peer.words("7.1")
    peer.incarnation = 2
    await lab.relink()
    assert (await peer.report("7.1", "recovered")).found == {
        "instance": "7.1",
        "backend": "fake",
        "phase": "running",
        "owner": "ann",
    }
    # asked about one of them, it says all of it again
    await lab.acknowledged()
    await peer.send(peer.assigned["8.1"])
    await peer.report("8.1", "paused", count=2)
    assert peer.words("8.1") == ["accepted", "started", "paused", "recovered", "accepted", "started", "paused"]
    assert lab.world.started == {"7.1": 1, "8.1": 1}


async def test_a_wish_for_what_is_over_is_answered_with_its_end(lab, peer):
    peer.forget_ended = False
    await lab.start()
    await peer.assign("7.1", "say", "", "", "4")
    await peer.report("7.1", "exited")
    await lab.acknowledged()
    await peer.wish("7.1", "killed", 1)
    assert (await peer.report("7.1", "exited", count=2)).exit.code == 4
    assert peer.words("7.1") == ["accepted", "started", "exited"] * 2


async def test_a_host_that_is_not_restored_is_told_nothing_twice(lab, peer):
    await lab.start()
    await peer.assign("7.1", "sleep")
    await peer.report("7.1", "started")
    await lab.acknowledged()
    await lab.relink()
    await peer.assign("8.1", "say", "", "", "0")
    await peer.report("8.1", "exited")
    assert peer.words("7.1") == ["accepted", "started"]


async def test_a_session_that_breaks_in_the_moment_of_the_stop_does_not_hold_it_up():
    async def breaks():
        raise OSError("the link broke")

    async def loop():
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(breaks())
                    await asyncio.Event().wait()
            except* OSError:
                pass
            heed_cancellation()

    task = asyncio.ensure_future(loop())
    await asyncio.sleep(0)
    # the group's child has failed by the next turn of the loop, in which the cancellation arrives as well
    asyncio.get_running_loop().call_soon(task.cancel)
    async with asyncio.timeout(30):
        await asyncio.wait({task})
    assert task.cancelled()
