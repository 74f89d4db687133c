"""The step that says in the environment who a job is and what it got. Nobody's own value overrides these."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from kohakuriver.wire import codec
from kohakuriver.wire.link import Assign


def environment(
    assign: Assign,
    *,
    node: str,
    now: datetime,
    shared_dir: Path | None = None,
    local_temp_dir: Path | None = None,
    elapsed: float = 0.0,
) -> Mapping[str, str]:
    """The task's own values below ours."""
    reserved = assign.reserved
    cores = len(reserved.cpus) or reserved.cpu_milli / 1000
    ours = {
        "KOHAKURIVER_TASK_ID": assign.attempt.partition(".")[0],
        "KOHAKURIVER_ATTEMPT": assign.attempt,
        "KOHAKURIVER_NODE": node,
        "KOHAKURIVER_CPUS": f"{cores:g}",
    }
    if assign.name is not None:
        ours["KOHAKURIVER_TASK_NAME"] = assign.name
    if reserved.memory:
        ours["KOHAKURIVER_MEMORY_BYTES"] = str(reserved.memory)
    if assign.time_limit is not None:
        left = timedelta(seconds=assign.time_limit - elapsed)
        ours["KOHAKURIVER_DEADLINE"] = codec.rfc3339(now + left)
    if shared_dir is not None:
        ours["KOHAKURIVER_SHARED_DIR"] = str(shared_dir)
    if local_temp_dir is not None:
        ours["KOHAKURIVER_LOCAL_TEMP_DIR"] = str(local_temp_dir)
    defaults = {"OMP_NUM_THREADS": str(len(reserved.cpus))} if reserved.cpus else {}
    return {**defaults, **assign.env, **ours}
