"""Random streams that depend on a seed and on content, never on what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, content: bytes) -> torch.Generator:
    """Return a generator on the CPU, the same for the same seed and content on every machine."""
    digest = hashlib.blake2b(f"{seed}:".encode() + content, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
