"""Pictures for the rows of `tests/rows`, drawn where they are needed."""

from pathlib import Path

from PIL import Image

NAMES = (
    "COCO_val2014_000000000001.jpg",
    "COCO_val2014_000000000002.jpg",
    "101.jpg",
    "102.jpg",
    "103.jpg",
    "art_1_1.png",
    "math_2_1.png",
    "math_2_2.png",
    "math_3_1.png",
    "math_3_2.png",
    "math_3_3.png",
    "kettle_o.jpg",
    "ladder_o.jpg",
)


def picture(number: int) -> Image.Image:
    """Return a small picture that no other number has."""
    drawn = Image.new("RGB", (12, 8), (20 * number, 40, 80))
    drawn.paste((250, 250, 20 * number), (2, 2, 6, 5))
    return drawn


def draw_pictures(folder: Path) -> Path:
    """Write all pictures into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        picture(number).save(folder / name)
    return folder
