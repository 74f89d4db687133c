"""Operations of the host: started by one request, followed to their end.

Breaks are bridged; an operation that a restart of the host has ended is told as such.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from kohakuriver.client.follow import SILENCE
from kohakuriver.client.http import BROKEN, Client
from kohakuriver.client.patience import PASSING, Patience
from kohakuriver.client.problems import failure_error
from kohakuriver.errors import Gone, NotFound, Unreachable
from kohakuriver.wire import urls

RUNNING = "running"
LONGEST_LINE = 1024 * 1024
View = Mapping[str, Any]


def follow(client: Client, operation: View, show: Callable[[View], None], patience: Patience) -> View:
    """The operation when it has gone well; `show` is called with each view on the way, the first and the last too.

    Raises the error that it failed with, Gone when the host does not know it any more, Unreachable when it stays away.
    """
    show(operation)
    path = urls.fill(urls.OPERATION, {"follow": 1}, operation=str(operation["id"]))
    while operation["state"] == RUNNING:
        try:
            operation = _read(client, path, operation, show, patience)
        except NotFound:
            raise Gone(
                f"the host was restarted and gave up what it did for {operation['name']}; "
                f"see what there is: kohakuriver env show {operation['name']}"
            ) from None
        except TimeoutError:
            continue
        except BROKEN:
            patience.failed(Unreachable("the news of the operation broke off"))
        except PASSING as error:
            patience.failed(error)
    if operation.get("error"):
        raise failure_error(operation["error"])
    return operation


def _read(client: Client, path: str, last: View, show: Callable[[View], None], patience: Patience) -> View:
    with client.stream(path, accept="application/x-ndjson", timeout=SILENCE) as response:
        patience.worked()
        while line := response.readline(LONGEST_LINE):
            if not line.strip():
                continue
            try:
                last = json.loads(line)
            except ValueError:
                raise Unreachable("the news of the operation was cut off") from None
            show(last)
    if last["state"] == RUNNING:
        patience.failed(Unreachable("the news of the operation ended before it did"))
    return last
