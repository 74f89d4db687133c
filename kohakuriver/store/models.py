"""The tables, as tortoise models. Knows no rule; `write.py` builds its statements from what stands here.

Times are whole microseconds since 1970 (UTC), lists and objects are JSON in text, and ids of people, nodes and tasks
are given from outside, so that a raw statement and a model read the same on SQLite and on PostgreSQL.
Every index has a name, because `migrate.py` makes lost ones again. Comments are plain: tortoise would store docstrings
and `#:` in the tables, and its migrations cut them at a semicolon.
"""

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from kohakuriver.store.columns import IdField, PartialUnique, to
from kohakuriver.store.environment_models import EnvironmentRow, VersionRow

PARTIAL_UNIQUE = (
    PartialUnique("uq_nodes_live_name", "nodes", ("name",), "state = 'active'"),
    PartialUnique(
        "uq_reservations_whole_device",
        "reservations",
        ("node_id", "device"),
        "device IS NOT NULL AND share_milli = 1000",
    ),
)


# What the store knows of itself: cluster, incarnation, epoch, schema.
class MetaRow(Model):
    key = fields.CharField(max_length=40, primary_key=True)
    value = fields.TextField()

    class Meta:
        table = "meta"


# People. Never deleted; a row is disabled instead.
class UserRow(Model):
    id = IdField()
    name = fields.CharField(max_length=64, unique=True)
    display = fields.TextField(default="")
    role = fields.CharField(max_length=16)
    state = fields.CharField(max_length=16)
    # open tasks at once; null: the cluster's default
    most_open = fields.BigIntField(null=True)
    # what may be held at once: attempts, cores, bytes of memory, cards; null: the cluster's default
    most_running = fields.BigIntField(null=True)
    most_cores = fields.BigIntField(null=True)
    most_memory = fields.BigIntField(null=True)
    most_devices = fields.BigIntField(null=True)
    created = fields.BigIntField()

    class Meta:
        table = "users"


# How a provider knows a person; `secret` is a password hash where the provider keeps one here.
class IdentityRow(Model):
    id = IdField()
    user = to("UserRow")
    provider = fields.CharField(max_length=64)
    subject = fields.CharField(max_length=255)
    secret = fields.TextField(null=True)

    class Meta:
        table = "identities"
        unique_together = (("provider", "subject"),)
        indexes = (Index(fields=("user_id",), name="ix_identities_user"),)


# Groups of people.
class GroupRow(Model):
    id = IdField()
    name = fields.CharField(max_length=64, unique=True)
    display = fields.TextField(default="")
    created = fields.BigIntField()

    class Meta:
        table = "groups"


# Who is in which group; the id is `<group>.<user>`.
class MembershipRow(Model):
    id = fields.CharField(max_length=48, primary_key=True)
    group = to("GroupRow")
    user = to("UserRow")

    class Meta:
        table = "memberships"
        unique_together = (("group", "user"),)
        indexes = (Index(fields=("user_id",), name="ix_memberships_user"),)


# Signed-in browsers; the id is the SHA-256 of the cookie, in hex.
class SessionRow(Model):
    id = fields.CharField(max_length=64, primary_key=True)
    user = to("UserRow")
    created = fields.BigIntField()
    seen = fields.BigIntField()
    expires = fields.BigIntField()
    client = fields.TextField(default="")
    revoked = fields.BigIntField(null=True)

    class Meta:
        table = "sessions"
        indexes = (
            Index(fields=("user_id", "created"), name="ix_sessions_user"),
            Index(fields=("expires",), name="ix_sessions_expires"),
        )


# API tokens; only the hash of the secret half is kept.
class TokenRow(Model):
    id = fields.CharField(max_length=10, primary_key=True)
    user = to("UserRow")
    name = fields.CharField(max_length=64)
    hash = fields.CharField(max_length=64)
    # JSON list of words
    scopes = fields.TextField(default="[]")
    created = fields.BigIntField()
    expires = fields.BigIntField(null=True)
    used = fields.BigIntField(null=True)
    revoked = fields.BigIntField(null=True)

    class Meta:
        table = "tokens"
        indexes = (Index(fields=("user_id", "created"), name="ix_tokens_user"),)


# Secrets for one use: set-up links of people, join tokens of nodes, the first admin's secret.
class OnceRow(Model):
    id = fields.CharField(max_length=10, primary_key=True)
    # setup, join or admin
    kind = fields.CharField(max_length=16)
    # the user id or node name that it is bound to
    subject = fields.CharField(max_length=255)
    hash = fields.CharField(max_length=64)
    created_by = to("UserRow", null=True)
    created = fields.BigIntField()
    expires = fields.BigIntField()
    used = fields.BigIntField(null=True)

    class Meta:
        table = "secrets_once"
        indexes = (
            Index(fields=("kind", "subject"), name="ix_secrets_once_subject"),
            Index(fields=("expires",), name="ix_secrets_once_expires"),
        )


# Enrolled machines. A revoked one keeps its row; a name is live once (PARTIAL_UNIQUE).
class NodeRow(Model):
    id = IdField()
    name = fields.CharField(max_length=253)
    # active or revoked
    state = fields.CharField(max_length=16)
    credential = fields.CharField(max_length=10, unique=True)
    credential_hash = fields.CharField(max_length=64)
    draining = fields.BooleanField(default=False)
    drain_reason = fields.TextField(default="")
    # JSON object of text
    labels = fields.TextField(default="{}")
    # JSON list of domain.resources.Cell
    cells = fields.TextField(default="[]")
    # JSON list of wire.link.BackendInfo
    backends = fields.TextField(default="[]")
    # life of the runner's journal
    epoch = fields.BigIntField(default=0)
    # boot id of its kernel
    boot = fields.CharField(max_length=64, default="")
    # release of its runner
    version = fields.CharField(max_length=64, default="")
    # highest report that was committed here
    acknowledged = fields.BigIntField(default=0)
    # rises with every reservation made or freed; compared and set by the scheduler
    allocation = fields.BigIntField(default=0)
    # why it takes no new work; null: it does
    quarantine = fields.TextField(null=True)
    # cards that get no new work: JSON object of device id -> reason, since, by
    cordons = fields.TextField(default="{}", db_default="{}")
    created = fields.BigIntField()
    seen = fields.BigIntField(null=True)

    class Meta:
        table = "nodes"
        indexes = (Index(fields=("name", "id"), name="ix_nodes_name"),)


# lists narrowed by one column and sorted by another; by `submitted` they sort by id, which rises with it
_NARROWED_LISTS = tuple(
    Index(fields=(narrow, sort, "id"), name=f"ix_tasks_{narrow.removesuffix('_id')}_{sort}")
    for narrow in ("status", "owner_id", "node_id")
    for sort in ("started", "finished", "priority", "name")
)


# domain.tasks.Task. What lists show or sort by stands in columns, the rest of the request in `spec`.
class TaskRow(Model):
    id = IdField()
    batch = fields.BigIntField()
    owner = to("UserRow")
    kind = fields.CharField(max_length=16)
    name = fields.CharField(max_length=255, null=True)
    status = fields.CharField(max_length=16)
    wanted = fields.CharField(max_length=16)
    wish = fields.BigIntField(default=0)
    version = fields.BigIntField(default=0)
    node = to("NodeRow", null=True)
    generation = fields.BigIntField(default=0)
    # JSON of domain.tasks.TaskSpec
    spec = fields.TextField()
    cores = fields.BigIntField(default=0)
    # bytes; null: no limit
    memory = fields.BigIntField(null=True)
    # number of cards asked for
    devices = fields.BigIntField(default=0)
    priority = fields.BigIntField(default=0)
    submitted = fields.BigIntField()
    started = fields.BigIntField(null=True)
    finished = fields.BigIntField(null=True)
    # not to be started before; null: at once
    ready = fields.BigIntField(null=True)
    # how often it was tried again
    retried = fields.BigIntField(default=0, db_default=0)
    exit_code = fields.BigIntField(null=True)
    exit_signal = fields.BigIntField(null=True)
    exit_oom = fields.BooleanField(null=True)
    exit_reason = fields.TextField(null=True)

    class Meta:
        table = "tasks"
        indexes = (
            Index(fields=("status", "id"), name="ix_tasks_status"),
            Index(fields=("owner_id", "id"), name="ix_tasks_owner"),
            Index(fields=("owner_id", "status", "id"), name="ix_tasks_owner_status"),
            Index(fields=("node_id", "id"), name="ix_tasks_node"),
            Index(fields=("batch", "id"), name="ix_tasks_batch"),
            Index(fields=("kind", "id"), name="ix_tasks_kind"),
            Index(fields=("name", "id"), name="ix_tasks_name"),
            Index(fields=("started", "id"), name="ix_tasks_started"),
            Index(fields=("finished", "id"), name="ix_tasks_finished"),
            Index(fields=("priority", "id"), name="ix_tasks_priority"),
            *_NARROWED_LISTS,
        )


# One run of a task; the id is `<task>.<generation>`.
class AttemptRow(Model):
    id = fields.CharField(max_length=40, primary_key=True)
    task = to("TaskRow")
    generation = fields.BigIntField()
    node = to("NodeRow")
    # life of the runner's journal that it was placed in
    epoch = fields.BigIntField(default=0)
    # what became of it, as host/ledger.py names it
    state = fields.CharField(max_length=16)
    placed = fields.BigIntField()
    accepted = fields.BigIntField(null=True)
    started = fields.BigIntField(null=True)
    finished = fields.BigIntField(null=True)
    exit_code = fields.BigIntField(null=True)
    exit_signal = fields.BigIntField(null=True)
    exit_oom = fields.BooleanField(null=True)
    exit_reason = fields.TextField(null=True)
    # the status that our delivered signal meant
    signalled = fields.CharField(max_length=16, null=True)
    cpu_seconds = fields.FloatField(null=True)
    # bytes
    memory_peak = fields.BigIntField(null=True)
    # time in `running`, pauses not counted
    running_seconds = fields.FloatField(null=True)

    class Meta:
        table = "attempts"
        unique_together = (("task", "generation"),)
        indexes = (
            Index(fields=("node_id", "state"), name="ix_attempts_node"),
            Index(fields=("finished",), name="ix_attempts_finished"),
        )


# What an attempt holds: one row for cores and memory, one more for each device (PARTIAL_UNIQUE).
class ReservationRow(Model):
    # `<task>.<generation>` or `<task>.<generation>/<device>`
    id = fields.CharField(max_length=160, primary_key=True)
    task = to("TaskRow")
    generation = fields.BigIntField()
    node = to("NodeRow")
    cell = fields.BigIntField(null=True)
    cpu_milli = fields.BigIntField(default=0)
    # JSON list of whole cores of its own
    cpus = fields.TextField(default="[]")
    # bytes
    memory = fields.BigIntField(default=0)
    device = fields.CharField(max_length=96, null=True)
    share_milli = fields.BigIntField(default=1000)
    # bytes of the device's memory; 0: not limited
    vram = fields.BigIntField(default=0)

    class Meta:
        table = "reservations"
        indexes = (
            Index(fields=("node_id",), name="ix_reservations_node"),
            Index(fields=("task_id", "generation"), name="ix_reservations_task"),
        )


# What a runner said, each (node, epoch, seq) once; the id is `<node>.<epoch>.<seq>`.
class ReportRow(Model):
    id = fields.CharField(max_length=64, primary_key=True)
    node = to("NodeRow")
    epoch = fields.BigIntField()
    seq = fields.BigIntField()
    # `<task>.<generation>`; empty when the report is about the node
    attempt = fields.CharField(max_length=40, default="")
    what = fields.CharField(max_length=32)
    # JSON of the report
    payload = fields.TextField()
    # false: it no longer applied and changed nothing
    applied = fields.BooleanField()
    received = fields.BigIntField()

    class Meta:
        table = "reports"
        indexes = (
            Index(fields=("attempt",), name="ix_reports_attempt"),
            Index(fields=("received",), name="ix_reports_received"),
        )


# The history. Numbers instead of references: a record outlives what it is about.
class EventRow(Model):
    id = IdField()
    at = fields.BigIntField()
    what = fields.CharField(max_length=64)
    actor_id = fields.BigIntField(null=True)
    # who or what caused it, in words
    actor = fields.CharField(max_length=255)
    task = fields.BigIntField(null=True)
    node = fields.BigIntField(null=True)
    user = fields.BigIntField(null=True)
    # JSON object
    detail = fields.TextField(default="{}")

    class Meta:
        table = "events"
        indexes = (
            Index(fields=("task", "id"), name="ix_events_task"),
            Index(fields=("node", "id"), name="ix_events_node"),
            Index(fields=("user", "id"), name="ix_events_user"),
        )


# One stream of an attempt as it was archived; small ones lie here, bigger ones in a file of the blob store.
class OutputRow(Model):
    # `<task>.<generation>/<stream>`
    id = fields.CharField(max_length=56, primary_key=True)
    attempt = to("AttemptRow")
    stream = fields.CharField(max_length=8)
    # bytes that the task wrote; with `at_least` it may have been more
    size = fields.BigIntField()
    # bytes kept from its beginning
    head = fields.BigIntField()
    # bytes kept from its end
    tail = fields.BigIntField()
    at_least = fields.BooleanField(default=False)
    data = fields.BinaryField(null=True)
    # name in the blob store
    path = fields.TextField(null=True)

    class Meta:
        table = "outputs"
        unique_together = (("attempt", "stream"),)


# What was answered to a request with an Idempotency-Key, each (owner, key) once: the id is `<owner>:<key>`.
class IdempotencyRow(Model):
    id = fields.CharField(max_length=160, primary_key=True)
    owner = to("UserRow")
    key = fields.CharField(max_length=128)
    # SHA-256 of the request's body, in hex
    body_hash = fields.CharField(max_length=64)
    # JSON as it was answered
    response = fields.TextField()
    created = fields.BigIntField()

    class Meta:
        table = "idempotency"
        indexes = (Index(fields=("created",), name="ix_idempotency_created"),)


MODELS: tuple[type[Model], ...] = (
    *(value for value in list(globals().values()) if isinstance(value, type) and value.__module__ == __name__),
    EnvironmentRow,
    VersionRow,
)
