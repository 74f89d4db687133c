"""The step that gives a body that is no part of the node its directories: the owner's part of the shared one, scratch
space of its own, its script. What lies where on the node, and as what the job sees it.
"""

from collections.abc import Sequence
from pathlib import Path

from kohakuriver.errors import Invalid
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.values import Mount
from kohakuriver.runner.settings import RunnerSettings
from kohakuriver.wire.link import Assign

SHARED = Path("/shared")
SCRATCH = Path("/local_temp")
OURS = Path("/kohakuriver")
#: of the folder below `local_temp_dir` that holds the scratch space of all
FOLDER = "kohakuriver"


def is_apart(backend: Backend) -> bool:
    """Whether its bodies see a file system of their own and not the node's."""
    return bool(backend.features.images) and not backend.features.remote


def scratch(settings: RunnerSettings, directory: Path) -> Path:
    """Where the scratch space of a body lies. It goes with the body."""
    if settings.local_temp_dir is None:
        return directory / "local_temp"
    return settings.local_temp_dir / FOLDER / directory.name


def closed(settings: RunnerSettings) -> tuple[Path, ...]:
    """What no body may be given of this node: the platform's data, and the scratch space of others."""
    temp = settings.local_temp_dir
    return (settings.data_dir, *settings.closed, *([] if temp is None else [temp / FOLDER]))


def shared(settings: RunnerSettings, owner: str) -> Path | None:
    """The owner's own part of the shared directory. Raises Invalid for a name that is no folder's."""
    if settings.shared_dir is None:
        return None
    if owner in (".", "..") or "/" in owner or "\0" in owner or not owner:
        raise Invalid("no folder of the shared directory can have this owner's name", field="owner", value=owner)
    return settings.shared_dir / owner


def mounts(settings: RunnerSettings, assign: Assign, directory: Path) -> Sequence[Mount]:
    """What the backend is to mount. Makes nothing."""
    found = [Mount(source=scratch(settings, directory), target=str(SCRATCH))]
    folder = shared(settings, assign.owner)
    if folder is not None:
        found.append(Mount(source=folder, target=str(SHARED)))
    if assign.script is not None:
        found.append(Mount(source=directory / "script", target=str(OURS / "script"), read_only=True))
    return found


def make(settings: RunnerSettings, assign: Assign, directory: Path) -> None:
    """Makes the directories. Blocks; may be called again. Scratch space is for whichever user the image has."""
    place = scratch(settings, directory)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.mkdir(exist_ok=True)
    place.chmod(0o1777)
    folder = shared(settings, assign.owner)
    if folder is not None:
        folder.mkdir(mode=0o700, exist_ok=True)
