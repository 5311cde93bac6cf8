"""Pictures of pairs: opened, turned upright, in RGB; a broken one is named."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps, UnidentifiedImageError

from grains.data.rows import shown
from grains.errors import GrainsError
from grains.types import ContrastivePair

MAX_PIXELS = 64_000_000
MIN_SIDE = 4  # a picture 1 or 3 pixels high is taken by transformers for one of 1 or 3 channels
MAX_ASPECT = 200  # Qwen's processors refuse more
# Formats that hold pixels and nothing that runs: for EPS, Pillow would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


class ImageError(GrainsError):
    """A picture that is missing, broken or of no use: the one fault that may be skipped."""


def open_image(image: Any, name: str = "", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one picture: upright as its EXIF data says, transparent parts laid on white.

    The size is read first, so that a small file that unpacks to a huge picture is never decoded.
    Of an animation the first frame is taken. Grey of 16 bits keeps its upper eight.

    Args:
        image: a path, the bytes of a file, a mapping `{"bytes": ..., "path": ...}` as the hub's
            parquet files hold it (bytes go first), or a PIL image.
        name: whose picture it is, for the error.
        max_pixels: how many pixels it may have.

    Returns:
        A picture of mode RGB.

    Raises:
        GrainsError: if it is missing, a folder or an address, empty, no picture, cut short, has too
            many pixels, a side below 4 or one side over 200 times the other.
    """
    given = unwrapped(image)
    try:
        if isinstance(given, Image.Image):
            return _decoded(given, max_pixels)
        if isinstance(given, bytes | bytearray | memoryview):
            return _read(io.BytesIO(given), max_pixels)
        if isinstance(given, str | os.PathLike):
            with picture_file(given).open("rb") as file:
                return _read(file, max_pixels)
        raise ImageError(f"is a {type(image).__name__}; wanted a path, bytes or a PIL image")
    except ImageError as error:
        fault = str(error)
    except UnidentifiedImageError:
        fault = f"is not a picture; wanted one of {', '.join(FORMATS)}"
    except Image.DecompressionBombError:
        fault = f"has more pixels than Pillow opens; wanted at most {max_pixels:,} pixels"
    except FileNotFoundError:
        fault = "does not exist; wanted a picture file"
    except Exception as error:  # decoders fail in many ways
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        fault = f"cannot be read: {said.splitlines()[0]}"
    raise ImageError(f"{name + ': ' if name else ''}the image {_shown(given)}{fault}")


def picture_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture.

    Raises:
        ImageError: for what a path is often mistaken for; it wants `the image ...` before it.
    """
    said = os.fspath(path)
    if not said:
        raise ImageError("is an empty text; wanted a picture file, or None for no picture")
    if "://" in said:
        raise ImageError("is an address; wanted a picture file, so download it first")
    if os.path.isdir(path):
        raise ImageError("is a folder; wanted a picture file, such as one that lies in it")
    return Path(path)


def images_of(pair: ContrastivePair, *, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, ...]:
    """Decode all pictures of a pair, in order; none gives an empty tuple.

    Raises:
        GrainsError: as in `open_image`, with the pair's name and the picture's place.
    """
    pictures = listed(pair.image)
    name = f"pair {pair.id!r}" if pair.id else f"the pair with prompt {pair.prompt[:40]!r}"
    places = [""] if len(pictures) == 1 else [f", picture {i + 1}" for i in range(len(pictures))]
    return tuple(
        open_image(picture, name + place, max_pixels=max_pixels)
        for picture, place in zip(pictures, places, strict=True)
    )


def listed(image: Any) -> tuple[Any, ...]:
    """Return a pair's `image` as a tuple, whether it is none, one or several pictures."""
    if image is None:
        return ()
    return tuple(image) if isinstance(image, tuple | list) else (image,)


def unwrapped(image: Any) -> Any:
    """Return what a mapping `{"bytes": ..., "path": ...}` holds, bytes first; else `image`."""
    if not isinstance(image, Mapping):
        return image
    content = image.get("bytes")
    return image.get("path") if content is None else content


def _shown(image: Any) -> str:
    if isinstance(image, str | os.PathLike):
        return f"{shown(str(image))} "
    if isinstance(image, bytes | bytearray | memoryview):
        return f"({len(image):,} bytes) "
    return ""


def _read(file: IO[bytes], max_pixels: int) -> Image.Image:
    if not file.read(1):
        raise ImageError("is empty")
    file.seek(0)
    with warnings.catch_warnings():  # Pillow warns of many pixels; here that is an error
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        opened = Image.open(file, formats=FORMATS)
    with opened:
        return _decoded(opened, max_pixels)


def _decoded(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    size = f"is {width} x {height} pixels; wanted"
    if width * height > max_pixels:
        raise ImageError(f"{size} at most {max_pixels:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{size} at least {MIN_SIDE} on a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{size} one side at most {MAX_ASPECT} times the other")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ImageError("has floating-point pixels of unknown range; wanted integers")
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        upright = upright.point(lambda value: value * (1 / 256)).convert("L")
    if "A" in upright.mode or "a" in upright.mode or "transparency" in upright.info:
        pixels = upright.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return upright.convert("RGB")
