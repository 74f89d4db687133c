"""The plugin's hooks: one backend, Docker containers."""

from collections.abc import Sequence

from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.spec import hookimpl
from kohakuriver.hooks.values import API_VERSION
from kohakuriver_docker.backend import DockerBackend


@hookimpl
def kohakuriver_api_version() -> int:
    return API_VERSION


@hookimpl
def kohakuriver_backends() -> Sequence[type[Backend]]:
    return [DockerBackend]
