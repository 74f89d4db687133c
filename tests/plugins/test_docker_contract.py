"""The docker backend keeps the contract against a real daemon."""

from pathlib import Path

import pytest

from kohakuriver.testing.contracts.backend import BackendContract
from kohakuriver.testing.dockerd import Dockerd

from .docker_kit import DockerKit


@pytest.mark.docker
class TestDocker(BackendContract):
    @pytest.fixture
    def kit(self, tmp_path: Path, dockerd: Dockerd) -> DockerKit:
        return DockerKit(tmp_path, dockerd)
