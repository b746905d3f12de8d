"""Faults done to a deployed lab, and what must hold all the same (docs/guarantees.md)."""

import pytest

# What they assert is told in full, as in a test.
pytest.register_assert_rewrite(f"{__name__}.ledger", f"{__name__}.load")
