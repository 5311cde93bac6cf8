"""A record made readable: as a page, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grains.errors import GrainsError
from grains.report.blocks import Document
from grains.report.comparison import comparison_document
from grains.report.markdown import markdown
from grains.report.page import html_page
from grains.report.reading import read_json, read_record
from grains.report.record import Comparison
from grains.report.sweep import sweep_document


class Report:
    """What a comparison or a sweep found.

    Args:
        content: the record, as JSON holds it.

    Raises:
        GrainsError: if it is no such record, or not whole.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.record = read_record(content)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read the record that `grains compare` or `grains sweep` wrote.

        Raises:
            GrainsError: as the class does, with the file's name.
        """
        try:
            return cls(read_json(path))
        except GrainsError as error:
            said = str(error)
            raise GrainsError(said if said.startswith(str(path)) else f"{path}: {said}") from error

    def html(self) -> str:
        """Return one page that holds everything it shows, and loads nothing."""
        return html_page(self._document())

    def markdown(self) -> str:
        """Return the same content in tables; plots are left out."""
        return markdown(self._document())

    def json(self) -> str:
        """Return the record itself, indented; numbers that are none are null."""
        text = json.dumps(self.content, ensure_ascii=False, indent=1, allow_nan=False)
        return f"{text}\n"

    def _document(self) -> Document:
        if isinstance(self.record, Comparison):
            return comparison_document(self.record)
        return sweep_document(self.record)
