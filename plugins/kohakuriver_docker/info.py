"""What the daemon says of itself and of its machine."""

import msgspec

from kohakuriver_docker.engine import Engine


class _Folder(msgspec.Struct):
    source: str = msgspec.field(name="Source", default="")
    id: str = msgspec.field(name="ID", default="")


class _Component(msgspec.Struct):
    name: str = msgspec.field(name="Name", default="")
    version: str = msgspec.field(name="Version", default="")


class _Version(msgspec.Struct):
    components: list[_Component] = msgspec.field(name="Components", default_factory=list)
    api: str = msgspec.field(name="ApiVersion", default="")
    architecture: str = msgspec.field(name="Arch", default="")


class Info(msgspec.Struct):
    """Of `SystemInfo` (Engine API); a daemon that leaves something out has the default."""

    version: str = msgspec.field(name="ServerVersion", default="")
    cgroup_version: str = msgspec.field(name="CgroupVersion", default="1")
    cgroup_driver: str = msgspec.field(name="CgroupDriver", default="")
    storage: str = msgspec.field(name="Driver", default="")
    root: str = msgspec.field(name="DockerRootDir", default="")
    system: str = msgspec.field(name="OSType", default="linux")
    live_restore: bool = msgspec.field(name="LiveRestoreEnabled", default=False)
    memory_limit: bool = msgspec.field(name="MemoryLimit", default=True)
    swap_limit: bool = msgspec.field(name="SwapLimit", default=True)
    cpu_quota: bool = msgspec.field(name="CpuCfsQuota", default=True)
    cpu_set: bool = msgspec.field(name="CPUSet", default=True)
    pids_limit: bool = msgspec.field(name="PidsLimit", default=True)
    cores: int = msgspec.field(name="NCPU", default=1)
    init: str = msgspec.field(name="InitBinary", default="")
    security: list[str] | None = msgspec.field(name="SecurityOptions", default=None)
    runtimes: dict[str, object] = msgspec.field(name="Runtimes", default_factory=dict)
    cdi_folders: list[str] | None = msgspec.field(name="CDISpecDirs", default=None)
    discovered: list[_Folder] | None = msgspec.field(name="DiscoveredDevices", default=None)

    #: of `SystemVersion`
    api: str = ""
    architecture: str = ""
    runc: str = ""

    @property
    def cdi_devices(self) -> list[str]:
        """Names of the devices that the daemon knows by CDI."""
        return [device.id for device in self.discovered or [] if device.source == "cdi"]


async def read(engine: Engine, limit: float) -> Info:
    """Asks the daemon. Raises Unreachable, EngineError."""
    info = await engine.ask(Info, "/info", limit=limit)
    version = await engine.ask(_Version, "/version", limit=limit)
    info.api, info.architecture = version.api, version.architecture
    info.runc = next((part.version for part in version.components if part.name == "runc"), "")
    return info
