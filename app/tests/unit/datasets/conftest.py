"""Files that no text editor writes."""

from __future__ import annotations

import pytest
import workbooks


@pytest.fixture
def workbook() -> bytes:
    """An Excel workbook."""
    return workbooks.workbook()
