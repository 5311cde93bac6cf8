"""The only place that registers a hook: reading hidden states and attention heads, editing them.

Every function here is a context manager that leaves nothing behind, also after an exception.
"""

from grains.hooks.blocks import Edit, Hookable, contiguous_head, editing, recording
from grains.hooks.columns import prompt_ends_at
from grains.hooks.decoder import capturing_arguments, replacing_arguments
from grains.hooks.heads import Heads

__all__ = [
    "Edit",
    "Heads",
    "Hookable",
    "capturing_arguments",
    "contiguous_head",
    "editing",
    "prompt_ends_at",
    "recording",
    "replacing_arguments",
]
