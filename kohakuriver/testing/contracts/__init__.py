"""The plugin contract as test suites: a plugin's tests inherit a class and give it a kit."""

import pytest

pytest.register_assert_rewrite(
    "kohakuriver.testing.contracts.backend",
    "kohakuriver.testing.contracts.syncer",
    "kohakuriver.testing.contracts.syncer_kit",
)
