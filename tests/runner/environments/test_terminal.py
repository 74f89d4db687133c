"""A shell in a container, from the host's end of the stream."""

from kohakuriver.runner.environments import channel
from kohakuriver.testing.environments import Room
from kohakuriver.wire import environments as wire
from kohakuriver.wire.frames import Kind, frame, window


async def opened(node, host, rooms):
    rooms.rooms["a"] = Room(base="", origin="x")
    await node.start()
    operation = await host.ask(wire.Shell(name="a", columns=132, rows=50))
    await node.until(lambda: rooms.rooms["a"].terminals)
    return operation, rooms.rooms["a"].terminals[0]


async def test_what_is_typed_arrives_and_what_is_printed_comes_back(node, host, rooms):
    operation, terminal = await opened(node, host, rooms)
    await operation.send(frame(Kind.DATA, b"ls\r"), window(100, 30))
    assert await operation.data(3) == b"ls\r"
    await operation.send(frame(Kind.DATA, b"exit 7"))
    assert await operation.result() == {"code": 7}
    assert terminal.sizes == [(132, 50), (100, 30)]
    assert terminal.closed.is_set()


async def test_much_output_waits_for_who_reads_it(node, host, rooms):
    operation, _ = await opened(node, host, rooms)
    await operation.send(frame(Kind.DATA, b"many"))
    assert len(await operation.data(1 << 20)) == 1 << 20
    await operation.send(frame(Kind.DATA, b"exit 0"))
    await operation.result()


async def test_a_closed_stream_ends_the_program(node, host, rooms):
    operation, terminal = await opened(node, host, rooms)
    operation.close()
    await node.until(terminal.closed.is_set)
    await node.until(lambda: node.runner._streams == 0)


async def test_a_closed_stream_is_noticed_behind_bytes_that_the_program_does_not_take(node, host, rooms):
    operation, terminal = await opened(node, host, rooms)
    await operation.send(frame(Kind.DATA, b"deaf"))
    await operation.send(*[frame(Kind.DATA, b"x" * 1000)] * (channel.MOST_WAITING + 50))
    operation.close()
    await node.passing(terminal.closed.is_set)


async def test_silence_for_a_day_ends_nothing(node, host, rooms):
    operation, _ = await opened(node, host, rooms)
    node.hands.advance(86400)
    await operation.send(frame(Kind.DATA, b"still there"))
    assert await operation.data(11) == b"still there"
    await operation.send(frame(Kind.DATA, b"exit 0"))
    await operation.result()


async def test_a_runner_that_stops_ends_its_terminals(node, host, rooms):
    _, terminal = await opened(node, host, rooms)
    await node.stop()
    assert terminal.closed.is_set()


async def test_a_container_that_is_not_there_has_no_shell(node, host):
    await node.start()
    operation = await host.ask(wire.Shell(name="b"))
    assert (await operation.failure()).code == "not_found"
