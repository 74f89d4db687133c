"""What became of each of the predecessor's settings: the one that takes it over, or why there is none."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_LATER_CONTAINERS = "containers are not part of this version yet"
_LATER_OVERLAY = "the overlay network is not part of this version yet"
_LATER_VMS = "virtual machines are not part of this version yet"
_UNUSED = "it had no effect before either"
_HEARTBEAT = "the host tells its runners the interval (host.heartbeat_interval_seconds)"

_HOST_KEPT = {
    "HOST_BIND_IP": "host.host_bind_ip",
    "HOST_PORT": "host.host_port",
    "HOST_REACHABLE_ADDRESS": "host.public_url",
    "HEARTBEAT_INTERVAL_SECONDS": "host.heartbeat_interval_seconds",
    "LOG_LEVEL": "host.log_level",
    "AUTH_ENABLED": "host.auth_enabled",
    "SESSION_EXPIRE_HOURS": "host.session_expire_hours",
    "DEFAULT_CONTAINER_NAME": "host.default_container_name",
    "INITIAL_BASE_IMAGE": "host.initial_base_image",
}
_RUNNER_KEPT = {
    "HOST_ADDRESS": "runner.host_url",
    "SHARED_DIR": "runner.shared_dir",
    "LOCAL_TEMP_DIR": "runner.local_temp_dir",
    "LOG_LEVEL": "runner.log_level",
}
_OVERLAY = {
    f"OVERLAY_{name}": _LATER_OVERLAY
    for name in ("ENABLED", "SUBNET", "VXLAN_ID", "VXLAN_PORT", "MTU", "NETWORK_NAME", "PERSIST")
}
_HOST_GONE = {
    **_OVERLAY,
    "HOST_SSH_PROXY_PORT": "the SSH proxy is not part of this version yet",
    "SHARED_DIR": "a shared directory is a matter of each runner (runner.shared_dir)",
    "DB_FILE": "the database lies in host.data_dir, or where host.database says",
    "CONTAINER_DIR": "environments travel through a syncer (host.environment_syncer), by default from the host",
    "HOST_LOG_FILE": _UNUSED + "; logs go to stderr and the journal",
    "HEARTBEAT_TIMEOUT_FACTOR": "a node is offline after 30 s of silence, and its tasks go on",
    "CLEANUP_CHECK_INTERVAL_SECONDS": "nothing waits for a round of checks any more",
    "TASKS_PRIVILEGED": _LATER_CONTAINERS,
    "ADDITIONAL_MOUNTS": _LATER_CONTAINERS,
    "DEFAULT_WORKING_DIR": _UNUSED,
    "ENV_CONTAINER_CPU_LIMIT": _LATER_CONTAINERS,
    "ENV_CONTAINER_MEM_LIMIT": _LATER_CONTAINERS,
    "ADMIN_SECRET": "the host prints a one-time secret for its first administrator",
    "ADMIN_REGISTER_SECRET": "the host prints a one-time secret for its first administrator",
    "INVITATION_EXPIRE_HOURS": _UNUSED,
}
_RUNNER_GONE = {
    **_OVERLAY,
    "RUNNER_BIND_IP": "runners open no port: they dial the host",
    "RUNNER_PORT": "runners open no port: they dial the host",
    "HOST_PORT": "the port is part of runner.host_url",
    "CONTAINER_TAR_DIR": "environments travel through a syncer, which has a section of its own",
    "NUMACTL_PATH": "NUMA binding needs no numactl any more",
    "RUNNER_LOG_FILE": _UNUSED + "; logs go to stderr and the journal",
    "RUNNER_USER": _UNUSED + "; see run_as of [plugins.process]",
    "RESOURCE_CHECK_INTERVAL_SECONDS": _UNUSED,
    "DEFAULT_WORKING_DIR": _UNUSED,
    "HEARTBEAT_INTERVAL_SECONDS": _HEARTBEAT,
    "TASKS_PRIVILEGED": _LATER_CONTAINERS,
    "ADDITIONAL_MOUNTS": _LATER_CONTAINERS,
    "DOCKER_IMAGE_SYNC_TIMEOUT": _LATER_CONTAINERS,
    "TUNNEL_ENABLED": "the tunnel is part of the link now",
    "TUNNEL_CLIENT_PATH": "the tunnel is part of the link now",
    **{f"DOCKER_NETWORK_{name}": _LATER_CONTAINERS for name in ("NAME", "SUBNET", "GATEWAY")},
    **dict.fromkeys(("AUTO_SNAPSHOT_ON_STOP", "MAX_SNAPSHOTS_PER_VPS", "AUTO_RESTORE_ON_CREATE"), _LATER_CONTAINERS),
    **{
        f"VM_{name}": _LATER_VMS
        for name in (
            "IMAGES_DIR",
            "INSTANCES_DIR",
            "DEFAULT_MEMORY_MB",
            "DEFAULT_DISK_SIZE",
            "ACS_OVERRIDE",
            "BOOT_TIMEOUT_SECONDS",
            "SSH_READY_TIMEOUT_SECONDS",
            "HEARTBEAT_TIMEOUT_SECONDS",
            "BRIDGE_NAME",
            "BRIDGE_SUBNET",
            "BRIDGE_GATEWAY",
        )
    },
}

#: role, old name, setting that takes it over
KEPT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({"host": _HOST_KEPT, "runner": _RUNNER_KEPT})
#: role, old name, why there is none
GONE: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({"host": _HOST_GONE, "runner": _RUNNER_GONE})
_HOST_ALL = frozenset(_HOST_KEPT) | frozenset(_HOST_GONE)
_RUNNER_ALL = frozenset(_RUNNER_KEPT) | frozenset(_RUNNER_GONE)
#: names that stand in one of the two files alone, to tell which is which
HOST_NAMES: Final = _HOST_ALL - _RUNNER_ALL
RUNNER_NAMES: Final = _RUNNER_ALL - _HOST_ALL
