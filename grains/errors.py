"""What a user sees when something is wrong: one line, with the nearest right thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GrainsError(ValueError):
    """A mistake that its reader can mend: what was given, what was wanted, the nearest right thing.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


def did_you_mean(given: str, options: Iterable[str]) -> str:
    """Return a half-sentence that names the option nearest to `given`, and all options.

    >>> did_you_mean("pcaa", ["pca", "lda"])
    "did you mean 'pca'? There are: lda, pca"
    >>> did_you_mean("zzz", ["pca", "lda"])
    'there are: lda, pca'
    """
    names = sorted(options)
    listed = ", ".join(names) or "none"
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? There are: {listed}" if near else f"there are: {listed}"
