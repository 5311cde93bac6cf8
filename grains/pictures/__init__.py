"""Credits to look at: words and pictures as PNG, and a page that holds both."""

from grains.pictures.overlay import density, overlay
from grains.pictures.page import page
from grains.pictures.words import heat_map

__all__ = ["density", "heat_map", "overlay", "page"]
