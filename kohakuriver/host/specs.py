"""What a submission asks for, checked and turned into the specs of its tasks."""

from collections.abc import Sequence
from dataclasses import replace

from kohakuriver.domain.arrays import elements
from kohakuriver.domain.dependencies import After
from kohakuriver.domain.labels import parse_constraints
from kohakuriver.domain.never import never_fits
from kohakuriver.domain.nodes import Snapshot
from kohakuriver.domain.resources import DeviceRequest, Request, Reserved
from kohakuriver.domain.targets import Target, parse_target
from kohakuriver.domain.tasks import Kind, Status, Task, TaskSpec, expand
from kohakuriver.errors import Invalid, NeverFits, NotFound, TooLarge
from kohakuriver.host.assignment import assignment
from kohakuriver.host.host import Host
from kohakuriver.host.many import array_of, commands_of, lease_of, retry_of
from kohakuriver.host.means import backend_of, container_of
from kohakuriver.wire import api, codec
from kohakuriver.wire.link import MOST_ASSIGNMENT

OURS = "KOHAKURIVER_"
#: bytes that one submit may take in the store
MOST_STORED = 64 * 1024 * 1024


def specs_of(host: Host, request: api.SubmitTask, needs: tuple[After, ...]) -> list[TaskSpec]:
    """What is asked for, checked, one for each task. Raises Invalid, NotFound, NeverFits, TooLarge."""
    retry = retry_of(request)
    lease = lease_of(host, request, retry)
    spec = replace(_spec(host, request), after=needs, retry=retry, requeue=request.requeue, lease=lease)
    targets = [parse_target(text) for text in request.targets]
    snapshot = host.scheduler.snapshot()
    for target in targets:
        if snapshot.named(target.node) is None:
            raise NotFound(f"there is no node {target.node!r}; see `kohakuriver node list`", field="targets")
    commands = commands_of(request)
    array = array_of(request, commands)
    count = request.copies * max(1, len(targets)) if array is None else len(array.indices)
    if count > api.MOST_COPIES:
        raise Invalid("too many tasks at once", field="copies", value=count, limit=api.MOST_COPIES)
    stored = count * _check_size(host, spec)
    if stored > MOST_STORED:
        raise TooLarge(
            f"{count} tasks of this size take {stored} bytes, at most {MOST_STORED}: put big scripts into files",
            field="copies",
            value=stored,
            limit=MOST_STORED,
        )
    _check_fits(snapshot, spec, targets)
    specs = expand(spec, targets, request.copies, () if array is None else elements(array))
    if commands is None:
        return specs
    return [replace(one, argv=command) for one, command in zip(specs, commands, strict=True)]


def _spec(host: Host, request: api.SubmitTask) -> TaskSpec:
    if not request.command and request.script is None:
        raise Invalid("what shall run? give a command or a script", field="command", limit="at least one word")
    _check_texts(request)
    if request.pin and request.cores == 0:
        raise Invalid("pinning needs a number of cores", field="cores", value=0, limit="1 or more with pin")
    devices = request.devices
    backend = backend_of(host, backend=request.backend, image=request.image, container=request.container)
    container = container_of(host, backend=backend, image=request.image, container=request.container)
    wanted = (
        DeviceRequest()
        if devices is None
        else DeviceRequest(count=devices.count, model=devices.model, memory=devices.memory)
    )
    return TaskSpec(
        kind=Kind.COMMAND,
        argv=tuple(request.command),
        script=request.script,
        env=request.env,
        secrets=request.secrets,
        workdir=request.workdir,
        request=Request(cores=request.cores, pin=request.pin, memory=request.memory, devices=wanted),
        backend=backend,
        options=request.options,
        container=container,
        image=request.image,
        pull=request.pull,
        constraints=parse_constraints(request.constraints),
        time_limit=request.time_limit,
        grace=host.settings.default_grace if request.grace is None else request.grace,
        priority=request.priority,
    )


def _check_texts(request: api.SubmitTask) -> None:
    """Texts that no program could ever be given are refused here."""
    texts = [(f"command[{number}]", text) for number, text in enumerate(request.command)]
    texts += [(f"env.{name}", text) for name, text in request.env.items()]
    texts += [(f"secrets.{name}", "\0" if "\0" in text else "") for name, text in request.secrets.items()]
    texts += [("script", request.script or ""), ("workdir", request.workdir or "")]
    for field, text in texts:
        if "\0" in text:
            raise Invalid("a NUL byte cannot be passed to a program", field=field, value=text)
    if request.command and not request.command[0] and request.script is None:
        raise Invalid("the program's name is empty", field="command[0]")
    for name in [*request.env, *request.secrets]:
        if name.startswith(OURS):
            raise Invalid(f"names that begin with {OURS} are set by the cluster", field=f"env.{name}", value=name)
    both = request.env.keys() & request.secrets.keys()
    if both:
        raise Invalid("a variable is given openly and as a secret", field=f"secrets.{min(both)}", value=min(both))
    if request.workdir is not None and not request.workdir.startswith("/"):
        raise Invalid("the working directory is an absolute path", field="workdir", value=request.workdir)


def _check_size(host: Host, spec: TaskSpec) -> int:
    """The bytes that a node is told. Raises TooLarge."""
    task = Task(id=1 << 62, batch=1 << 62, owner=1 << 62, spec=spec, status=Status.PENDING, submitted=host.clock.now())
    environment = host.environments.catalog.told(spec.container)
    size = len(codec.encode(assignment(task, Reserved(task=task.id, generation=1), "x" * 64, environment))) + 1024
    if size > MOST_ASSIGNMENT:
        raise TooLarge(
            f"a node would be told {size} bytes, at most {MOST_ASSIGNMENT}: put big scripts and data into files",
            field="script" if spec.script else "command",
            value=size,
            limit=MOST_ASSIGNMENT,
        )
    return size


def _check_fits(snapshot: Snapshot, spec: TaskSpec, targets: Sequence[Target]) -> None:
    places: Sequence[Target | None] = targets or [None]
    for target in places:
        reason = never_fits(snapshot, replace(spec, target=target))
        if reason is not None:
            raise NeverFits(f"this could never start: {reason.text}", field="targets" if target else None)
