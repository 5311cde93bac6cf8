"""What an error says."""

from __future__ import annotations

import re

import pytest

from grains.errors import GrainsError


def says(*parts: str):
    """Expect a GrainsError of one line that holds all parts."""
    pattern = "".join(f"(?=.*{re.escape(part)})" for part in parts)
    return pytest.raises(GrainsError, match=rf"\A{pattern}.*\Z")
