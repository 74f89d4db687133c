"""What commands print: data to stdout in the form that was asked for, words to stderr."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from kohakuriver.cli.clean import clean, clean_json, clean_lines
from kohakuriver.cli.table import draw
from kohakuriver.errors import Invalid, KohakuRiverError

FORMATS = ("table", "json", "yaml", "csv", "name")
COLOURS = {
    "running": "32", "online": "32", "active": "32",
    "pending": "33", "pending_approval": "33", "assigned": "33", "starting": "33", "stopping": "33", "suspect": "33",
    "completed": "34", "paused": "36",
    "failed": "31", "killed": "31", "killed_oom": "31", "timed_out": "31", "offline": "31", "revoked": "31",
    "lost": "35", "stopped": "2", "disabled": "2",
}  # fmt: skip
Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of a table: the field it is named after, its title, and how a row is shown in it."""

    key: str
    title: str
    show: Callable[[Row], str] | None = None


class Style(NamedTuple):
    """How to print, as the flags say."""

    format: str = "table"
    quiet: bool = False
    headers: bool = True
    columns: tuple[str, ...] = ()
    color: str = "auto"


class Output:
    """Where a command prints. Each method writes at once; a closed stdout shows as BrokenPipeError."""

    def __init__(self, style: Style, stdout: TextIO, stderr: TextIO) -> None:
        self.style = style
        self.stdout = stdout
        self.stderr = stderr

    @property
    def machine(self) -> bool:
        """Whether a program reads along: then stdout holds data alone."""
        return self.style.format in {"json", "yaml", "csv"}

    def data(
        self,
        data: Row | Sequence[Row],
        *,
        columns: Sequence[Column | str] | None = None,
        name: str = "id",
        more: str | None = None,
    ) -> None:
        """One record or a list. `columns` are those of the table, `name` the field that `-q` and `-o name` print.

        `more` is the cursor of the next page, for JSON and YAML.
        """
        rows = [data] if isinstance(data, Mapping) else list(data)
        form = "name" if self.style.quiet else self.style.format
        if form == "name":
            self._lines([clean(_plain(row.get(name))) for row in rows])
        elif form in {"json", "yaml"}:
            self._document(data if isinstance(data, Mapping) else {"items": rows, "next": more}, form)
        elif form == "csv":
            self._csv(rows, _chosen(self.style.columns, None, rows))
        elif isinstance(data, Mapping) and not self.style.columns and columns is None:
            self._lines(self._record(data))
        else:
            self._table(rows, _chosen(self.style.columns, columns, rows))

    def line(self, record: Row) -> None:
        """One record of a stream, as one line of JSON whatever the width."""
        self._lines([_json(record)])
        self.stdout.flush()

    def text(self, text: str) -> None:
        """A line or several of our own for people."""
        self._lines([clean_lines(text)])

    def raw(self, data: bytes) -> None:
        """Bytes of a task, as they are."""
        self.stdout.flush()
        self.stdout.buffer.write(data)
        self.stdout.buffer.flush()

    def raw_error(self, data: bytes) -> None:
        """Bytes of a task's standard error, as they are."""
        self.stderr.flush()
        self.stderr.buffer.write(data)
        self.stderr.buffer.flush()

    def note(self, text: str) -> None:
        """Words beside the data, to stderr; none with `-q`."""
        if not self.style.quiet:
            self.say(text)

    def say(self, text: str) -> None:
        """Words that count even with `-q`, to stderr."""
        self._say(clean_lines(text))

    def error(self, error: KohakuRiverError, *, exit_code: int) -> None:
        """A line a fault that names it and the next step; as JSON where JSON was asked for."""
        if self.style.format == "json":
            self._say(_json({"error": _facts(error), "exit_code": exit_code}))
            return
        for sentence in list(map(str, getattr(error, "problems", ()))) or [_sentence(error)]:
            self._say("error: " + clean(sentence))

    def done(self, record: Row, sentence: str, *, name: str = "id") -> None:
        """What a change answers: the record for programs, a sentence for people, the id with `-q`."""
        if self.machine or self.style.quiet or self.style.format == "name":
            self.data(record, name=name)
        else:
            self.text(sentence)

    @property
    def colourful(self) -> bool:
        """Whether stdout takes colours: `--color`, NO_COLOR (no-color.org), a terminal."""
        if self.style.color != "auto":
            return self.style.color == "always"
        environ = os.environ
        return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and self.stdout.isatty()

    def _record(self, record: Row) -> list[str]:
        return draw(None, [(f"{key}:", _plain(value)) for key, value in record.items() if value is not None])

    def _table(self, rows: Sequence[Row], columns: Sequence[Column]) -> None:
        shown = [
            [column.show(row) if column.show else _plain(row.get(column.key)) for column in columns] for row in rows
        ]
        titles = [column.title for column in columns] if self.style.headers else None
        states = [i for i, column in enumerate(columns) if column.key == "status"] if self.colourful else []
        paint = (lambda i, text: _coloured(text) if i in states else text) if states else lambda _i, text: text
        self._lines(draw(titles, shown, width=width_of(self.stdout), paint=paint))

    def _csv(self, rows: Sequence[Row], columns: Sequence[Column]) -> None:
        import csv

        writer = csv.writer(self.stdout, lineterminator="\n")
        if self.style.headers and columns:
            writer.writerow([column.key for column in columns])
        writer.writerows([_plain(row.get(column.key)) for column in columns] for row in rows)

    def _document(self, value: Row, form: str) -> None:
        if form == "json":
            self._lines([_json(value, indent=2)])
            return
        from kohakuriver.cli.yaml import emit

        self.stdout.write(emit(value))

    def _lines(self, lines: Sequence[str]) -> None:
        if lines:
            self.stdout.write("\n".join(lines) + "\n")

    def _say(self, text: str) -> None:
        try:
            self.stderr.write(text + "\n")
            self.stderr.flush()
        except OSError:
            return  # nobody listens there any more


def width_of(stream: TextIO) -> int | None:
    """The width of the terminal behind the stream; None where there is none, or one without columns."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None
    except (OSError, ValueError):
        return None


def _chosen(wanted: Sequence[str], usual: Sequence[Column | str] | None, rows: Sequence[Row]) -> list[Column]:
    """The columns that were asked for, else the usual ones, else every field. Raises Invalid for an unknown name."""
    known = [each if isinstance(each, Column) else Column(each, each.upper()) for each in usual or ()]
    if not wanted:
        return known or [Column(key, key.upper()) for key in (rows[0] if rows else ())]
    by_key = {column.key: column for column in known}
    fields = dict.fromkeys([*by_key, *(key for row in rows[:1] for key in row)])
    for key in wanted:
        if rows and key not in fields:
            raise Invalid("there is no such column", field="--columns", value=key, limit=", ".join(fields))
    return [by_key.get(key) or Column(key, key.upper()) for key in wanted]


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _json(value: object, indent: int | None = None) -> str:
    return clean_json(json.dumps(value, ensure_ascii=False, indent=indent, default=str))


def _coloured(cell: str) -> str:
    code = COLOURS.get(cell.strip())
    return f"\x1b[{code}m{cell}\x1b[0m" if code else cell


def _facts(error: KohakuRiverError) -> dict[str, Any]:
    facts = {
        "code": error.code,
        "detail": error.message,
        "field": getattr(error, "field", None),
        "value": getattr(error, "value", None),
        "limit": getattr(error, "limit", None),
        "notes": list(getattr(error, "__notes__", ())) or None,
        "problems": [str(problem) for problem in getattr(error, "problems", ())] or None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _sentence(error: KohakuRiverError) -> str:
    """Message, then field, value and limit unless the message names them, then the next step."""
    parts = [error.message]
    about = [
        f"{label} {value}" if label != "field" else str(value)
        for label, value in (("field", error.field), ("given", error.value), ("expected", error.limit))
        if value and str(value) not in error.message
    ]
    if about:
        parts.append(f"({'; '.join(about)})")
    return " ".join(parts) + "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
