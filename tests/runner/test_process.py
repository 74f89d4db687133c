"""The runner with real processes: what the fakes promise holds."""

from kohakuriver_process.backend import ProcessBackend

from kohakuriver.net.process import run_command
from kohakuriver.runner.runner import Runner
from kohakuriver.runner.settings import RunnerSettings


async def start(lab, peer):
    settings = RunnerSettings(
        data_dir=lab.path / "node",
        host_url=peer.url,
        credential="secret",
        name="n1",
        backend_config={"process": {"enabled": True, "idle_seconds": 1}},
    )
    lab.runner = Runner(settings, [ProcessBackend()], run_command=run_command, cells=lambda: lab.cells)
    await lab.start()


async def test_real_exit_codes_and_both_streams(lab, peer):
    await start(lab, peer)
    await peer.assign("7.1", "sh", "-c", "echo out; echo err >&2; exit 7", backend="process", image=None)
    report = await peer.report("7.1", "exited")
    assert (report.exit.code, report.stdout.data, report.stderr.data) == (7, b"out\n", b"err\n")


async def test_a_real_process_survives_the_runner_with_its_code_and_every_byte(lab, peer):
    await start(lab, peer)
    gate = lab.path / "gate"
    script = f"seq 1 5000; while [ ! -e {gate} ]; do sleep 0.05; done; seq 1 2500 | tac; exit 3"
    await peer.assign("7.1", "sh", "-c", script, backend="process", image=None)
    await peer.report("7.1", "started")
    await lab.die()
    gate.touch()
    await start(lab, peer)
    report = await peer.report("7.1", "exited")
    expected = b"".join(b"%d\n" % n for n in [*range(1, 5001), *range(2500, 0, -1)])
    assert report.exit.code == 3
    assert report.stdout.data == expected
    assert peer.words("7.1") == ["accepted", "started", "exited"]
