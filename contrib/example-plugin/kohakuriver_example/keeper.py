"""A script beside each run, which outlives the runner: starts the command, ends what it leaves, tells how it ended."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

body, attempt, order = Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
if os.fork():
    os._exit(0)
os.setsid()
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process
claim = (body / f"run.{os.getpid()}").open("w")
os.lockf(claim.fileno(), os.F_LOCK, 0)  # as long as this process lives, which is how it is seen to live
print(os.getpid(), time.time_ns(), attempt, end="", file=claim, flush=True)
os.link(claim.name, body / "run")  # claimed before it is started: nothing is started twice, whoever dies in between
try:
    with (body / "stdout").open("wb") as out, (body / "stderr").open("wb") as err:
        child = subprocess.Popen(**order, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
except OSError as error:
    (body / "run").unlink()
    sys.exit(f"cannot start {order['args'][0]!r}: {os.strerror(error.errno or 0).lower()}")
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
signal.signal(signal.SIGUSR1, lambda *_: child.kill())
os.closerange(0, 3)  # whoever waits for an answer has it
code = child.wait()
end = {"finished": time.time()} | ({"code": code} if code >= 0 else {"code": 128 - code, "signal": -code})
with suppress(ChildProcessError):
    while True:  # until nothing is left to wait for
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                if f"\nPPid:\t{os.getpid()}\n" in status.read_text():
                    os.kill(int(status.parent.name), signal.SIGKILL)
        os.waitpid(-1, 0)
(body / "exit").write_text(json.dumps(end))
