"""Lists that come in pages."""

from collections.abc import Sequence
from typing import Any

from kohakuriver.cli.exits import OK, UsageError
from kohakuriver.cli.output import Column, Output
from kohakuriver.client.http import Client
from kohakuriver.wire import urls

#: rows that one request asks for
PAGE = 200


def print_pages(
    client: Client,
    template: str,
    query: dict[str, object],
    out: Output,
    *,
    columns: Sequence[Column],
    name: str = "id",
    limit: int | None = None,
    every: bool = False,
) -> int:
    """Print up to `limit` rows, or `every` one; says so when there are more."""
    if limit is not None and limit < 1:
        raise UsageError("a list has at least one row", field="--limit", value=limit, limit="1 or more")
    rows, more = collect(client, template, query, limit=None if every else limit)
    out.data(rows, columns=columns, name=name, more=more)
    if more and not out.machine:
        out.note(f"there are more than {len(rows)}; see them with --limit or --all")
    return OK


def print_list(client: Client, path: str, out: Output, *, columns: Sequence[Column], name: str = "id") -> int:
    """Print a list that the host gives as a whole."""
    out.data(client.get(path)["items"], columns=columns, name=name)
    return OK


def collect(
    client: Client, template: str, query: dict[str, object], *, limit: int | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The rows, and the cursor of what follows."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        size = PAGE if limit is None else min(PAGE, limit - len(rows))
        page = client.get(urls.fill(template, {**query, "limit": size, "cursor": cursor}))
        rows += page["items"]
        cursor = page.get("next")
        if cursor is None or (limit is not None and len(rows) >= limit) or not page["items"]:
            return rows, cursor
