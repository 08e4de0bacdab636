"""Contracts that adapters of engines inherit and pass, for people who add engines."""

import pytest

pytest.register_assert_rewrite("polyplane.testing.vector", "polyplane.testing.vector_writing")
