"""The process backend keeps the contract with every means of limiting that this machine has."""

from pathlib import Path

import pytest

from kohakuriver.testing.contracts.backend import BackendContract

from .process_kit import MODES, ProcessKit


@pytest.mark.parametrize("mode", MODES, scope="class")
class TestProcess(BackendContract):
    @pytest.fixture
    def kit(self, tmp_path: Path, mode: str) -> ProcessKit:
        return ProcessKit(tmp_path, limits=mode)
