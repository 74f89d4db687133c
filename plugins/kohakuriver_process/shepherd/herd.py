"""All workloads of one runner, and what can be asked of them. Every order may come twice."""

# plain names: pathlib would cost the shepherd its quick start
# ruff: noqa: PTH102, PTH103, PTH105, PTH106, PTH108, PTH110, PTH118, PTH123

import contextlib
import json
import os
import re
import signal

from kohakuriver_process.shepherd import groups, tree
from kohakuriver_process.shepherd.body import Body, Reply
from kohakuriver_process.shepherd.frames import Message
from kohakuriver_process.shepherd.hunt import Hunt
from kohakuriver_process.shepherd.loop import Loop
from kohakuriver_process.shepherd.spawn import Order, StartFailed, spawn

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_READ = 1024 * 1024


class Refused(Exception):
    """the order cannot be carried out; the text goes to who gave it"""


class Herd:
    """The bodies by instance. `state` is the runner's directory for them, `identity` names this shepherd."""

    def __init__(self, loop: Loop, state: str, identity: str, boot: str) -> None:
        self.bodies: dict[str, Body] = {}
        self._loop = loop
        self._identity = identity
        self._boot = boot
        self._records = os.path.join(state, "bodies")
        self._fresh = os.path.join(state, "body.new")
        self._hunt = Hunt(loop, self.bodies)
        self._by_pid: dict[int, Body] = {}
        self._homes = groups.Homes(groups.mounted())
        os.makedirs(self._records, mode=0o700, exist_ok=True)

    def orders(self, message: Message, reply: Reply) -> None:
        """Carries out one order; the reply may come later. Raises Refused, or KeyError for an unknown one."""
        handlers = {
            "create": self._create,
            "start": self._start,
            "see": self._see,
            "wait": self._wait,
            "read": self._read,
            "stop": self._stop,
            "pause": self._pause,
            "resume": self._resume,
            "remove": self._remove,
            "list": self._list,
        }
        handlers[message["op"]](message, reply)

    @property
    def running(self) -> bool:
        return any(body.going for body in self.bodies.values())

    def reap(self) -> None:
        """Waits for every child that ended: workloads, and orphans that came to the shepherd."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            main = self._by_pid.pop(ended.si_pid, None)
            owner = self._hunt.owner(ended.si_pid) or main
            _, status, usage = os.wait4(ended.si_pid, 0)
            if owner is not None:
                owner.use(usage)
            if main is not None:
                main.status = status
                main.phase = "ending"
                self._loop.after(0, lambda main=main: self._hunt.kill(main, lambda: self._over(main)))  # type: ignore[misc]

    def _over(self, body: Body) -> None:
        if self._hunt.awaited(body):
            self.reap()  # what was killed last is counted as well
        self._hunt.forget(body)
        body.end(self._loop)

    def _create(self, message: Message, reply: Reply) -> None:
        instance, directory = message["instance"], message["directory"]
        if not NAME.fullmatch(instance):
            raise Refused(f"{instance!r} cannot name a body")
        body = self.bodies.get(instance)
        if body is None:
            body = Body(instance, directory)
            body.meant = message.get("attempt")
            self._record_new(body)
            self.bodies[instance] = body
            _make(f"{directory}/work")
        elif body.directory != directory:
            raise Refused(f"body {instance} belongs to somebody else: its directory is {body.directory}")
        reply(body.story(), b"")

    def _record_new(self, body: Body) -> None:
        instance, directory = body.instance, body.directory
        path = os.path.join(self._records, instance)
        try:
            with open(path, encoding="utf-8") as file:
                old = json.load(file)
        except (FileNotFoundError, ValueError):  # none, or one that a full disk cut short
            old = {}
        if old and old["directory"] != directory:
            raise Refused(f"body {instance} belongs to somebody else: its directory is {old['directory']!r}")
        if old.get("boot") == self._boot and old.get("pid") and tree.alive(old["pid"], old["start"]):
            raise Refused(f"body {instance} still runs, left by a shepherd that is gone; remove it first")
        self._write_record(body, path)

    def _write_record(self, body: Body, path: str) -> None:
        """Writes it beside and renames it: by the older one a body is found if the disk is full now. Raises OSError."""
        record = {
            "instance": body.instance,
            "directory": body.directory,
            "attempt": body.attempt or body.meant,
            "pid": body.pid,
            "start": body.start,
            "groups": body.groups,
            "cage": body.cage,
            "shepherd": self._identity,
            "boot": self._boot,
        }
        fd = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = json.dumps(record).encode()
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.replace(self._fresh, path)

    def _start(self, message: Message, reply: Reply) -> None:
        body = self._body(message)
        if body.attempt is not None:
            if body.attempt != message["attempt"]:
                raise Refused(f"body {body.instance} runs once, and ran attempt {body.attempt}")
        else:
            self._spawn(body, message["attempt"], message["order"])
        reply(body.story(), b"")

    def _spawn(self, body: Body, attempt: str, order: Order) -> None:
        pipes: dict[str, int] = {}
        ends: dict[str, int] = {}
        try:
            for name in ("stdout", "stderr"):
                pipes[name], ends[name] = os.pipe2(os.O_CLOEXEC)
            pid = spawn(order, ends["stdout"], ends["stderr"], self._homes)
        except (StartFailed, OSError) as error:
            for fd in pipes.values():
                os.close(fd)
            raise Refused(str(error)) from None
        finally:
            for fd in ends.values():
                os.close(fd)
        process = tree.look(pid)
        assert process is not None, "a child stays in /proc until it is waited for"
        body.attempt, body.pid, body.start, body.phase = attempt, pid, process.start, "running"
        body.groups = [group["directory"] for group in order["groups"]]
        body.cage, body.memory = order["cage"], order["memory"]
        self._by_pid[pid] = self._hunt.sessions[pid] = body
        body.listen(self._loop, pipes, head=order["head"], tail=order["tail"])
        with contextlib.suppress(OSError):  # a full disk: the journal of the runner has the run as well
            self._write_record(body, os.path.join(self._records, body.instance))

    def _see(self, message: Message, reply: Reply) -> None:
        body = self.bodies.get(message["instance"])
        if body is None:
            reply({"phase": "gone"}, b"")
        else:
            reply({**body.story(), "groups": body.groups, "usage": body.usage}, b"")

    def _wait(self, message: Message, reply: Reply) -> None:
        body = self._of_run(message)
        if body.going:
            body.waiters.append(reply)
        else:
            reply(body.story(), b"")

    def _read(self, message: Message, reply: Reply) -> None:
        body = self._of_run(message)
        offsets = {"stdout": message["stdout"], "stderr": message["stderr"]}
        most = min(message["most"], MOST_READ)

        def tell() -> bool:
            parts, blob = body.read(offsets, most)
            if not parts and body.going:
                return False
            reply({"parts": parts, "end": not parts, "totals": body.totals()}, blob)
            return True

        if not tell():
            body.readers.append(tell)

    def _stop(self, message: Message, reply: Reply) -> None:
        if message["instance"] not in self.bodies:
            reply({"phase": "gone"}, b"")
            return
        body = self._of_run(message)
        if not body.going:
            reply(body.story(), b"")
            return
        body.waiters.append(reply)
        if body.phase != "running":
            return
        if body.paused:
            body.paused = False
            self._hunt.resume(body)
        if message["grace"] > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(body.pid, signal.SIGTERM)
                os.killpg(body.pid, signal.SIGCONT)
        if body.grace is not None:
            body.grace.cancel()
        body.grace = self._loop.after(message["grace"], lambda: self._hunt.kill(body, lambda: None))

    def _pause(self, message: Message, reply: Reply) -> None:
        body = self._of_run(message)
        if body.phase == "running":
            body.paused = True
        self._hunt.pause(body, lambda: reply(body.story(), b""))

    def _resume(self, message: Message, reply: Reply) -> None:
        body = self._of_run(message)
        if body.phase == "running" and body.paused:
            body.paused = False
            self._hunt.resume(body)
        reply(body.story(), b"")

    def _remove(self, message: Message, reply: Reply) -> None:
        body = self.bodies.get(message["instance"])
        if body is None:
            reply({"phase": "gone"}, b"")
        elif body.going:
            self._hunt.kill(body, lambda: None)
            body.waiters.append(lambda _story, _blob: self._forget(body, reply))
        else:
            self._forget(body, reply)

    def _forget(self, body: Body, reply: Reply) -> None:
        if self.bodies.pop(body.instance, None) is not None:
            body.discard()
            for path in ("output", "work"):
                with contextlib.suppress(OSError):  # what the workload left there is removed by the runner
                    os.rmdir(os.path.join(body.directory, path))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._records, body.instance))
        reply({"phase": "gone", "left": os.path.exists(os.path.join(body.directory, "work"))}, b"")

    def _list(self, _message: Message, reply: Reply) -> None:
        reply(
            {"bodies": [{"instance": body.instance, "directory": body.directory} for body in self.bodies.values()]}, b""
        )

    def _body(self, message: Message) -> Body:
        body = self.bodies.get(message["instance"])
        if body is None:
            raise Refused(f"there is no body {message['instance']}")
        return body

    def _of_run(self, message: Message) -> Body:
        body = self._body(message)
        if body.run != message["run"]:
            raise Refused(f"body {body.instance} has no run {message['run']}; its run is {body.run}")
        return body


def _make(directory: str) -> None:
    """The directory, with those above it where they are not there."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(directory, mode=0o700, exist_ok=True)
