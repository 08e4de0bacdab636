"""Contracts that adapters of engines inherit and pass, for people who add engines."""

import pytest

for _contract in ("cache", "objects", "series", "series_reading", "vector", "vector_writing"):
    pytest.register_assert_rewrite(f"{__name__}.{_contract}")
