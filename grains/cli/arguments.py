"""A parser whose complaints are ours: one line, without the usage."""

from __future__ import annotations

import argparse
from typing import NoReturn

from grains.errors import GrainsError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises what `main` prints."""

    def error(self, message: str) -> NoReturn:
        """Raise the message.

        Raises:
            GrainsError: always.
        """
        raise GrainsError(f"{message}; see `{self.prog} --help`")
