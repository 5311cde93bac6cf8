"""One HTML page that holds everything it shows: summary, words and pictures, for one pair or many.

It loads nothing, and its content policy forbids it to; texts of the data are escaped throughout.
"""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from html import escape

import torch
from PIL import Image
from torch import Tensor

from grains.credits import Credits, Picture
from grains.errors import GrainsError
from grains.fitting import Gap
from grains.pictures.colours import AGAINST, FOR, strength
from grains.pictures.overlay import SHORTEST, coloured, sized
from grains.pictures.style import STYLE
from grains.pictures.words import chips, word_scale

_OPAQUE = 0.75  # at the most, so that the text is read on any background
_KINDS = ("text", "image", "template")


def page(credits: Sequence[Credits], title: str = "Credits") -> str:
    """Return an HTML page with a summary and every sequence, the strongest first.

    Words lie on the colour of their credit; the credit of image tokens lies over the picture.
    Pointing at either shows the number. A sequence's strength is the sum of its credits by
    magnitude.

    Args:
        credits: of one pair or of a whole fit.
        title: of the page.

    Raises:
        GrainsError: if there are no credits.
    """
    if not credits:
        raise GrainsError("there are no credits; wanted those of one sequence or more")
    # Strongest first; each keeps the number under which its pictures are written.
    numbered = enumerate(credits, start=1)
    ranked = sorted(numbered, key=lambda one: -float(one[1].scores.abs().sum()))
    body = "\n".join(section(one, place) for place, one in ranked)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n{_summary(credits)}\n{_LEGEND}\n</header>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


_LEGEND = (
    '<p class="legend"><span class="bar" style="background:linear-gradient(90deg,'
    f"rgba{(*AGAINST, _OPAQUE)},transparent,rgba{(*FOR, _OPAQUE)})"
    '"></span>blue speaks against, orange for; full colour is the strongest word or part of the '
    "picture of each sequence. Pointing at one shows its credit in nats. Grey text is the "
    "template, which is not credited.</p>"
)


def _summary(credits: Sequence[Credits]) -> str:
    ordered = ", those with most credit by magnitude first" if len(credits) > 1 else ""
    rows = [("sequences", f"{len(credits)}{ordered}")]
    for kind in ("text", "image"):
        shares = [one.share(kind) for one in credits]
        spread = f", {min(shares):.0%} to {max(shares):.0%}" if len(shares) > 1 else ""
        rows.append((f"share of the {kind}", f"{statistics.fmean(shares):.0%}{spread}"))
    rows.append(
        ("sum of scores", f"{statistics.fmean(float(o.scores.sum()) for o in credits):+.3g}")
    )
    gap = Gap.of([one.name for one in credits], torch.tensor([one.gap for one in credits]))
    rows.append(("completeness gap", escape(str(gap or "the attributor promises none"))))
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{text}</td></tr>" for name, text in rows)
    return f'<table class="summary">{cells}</table>'


def section(credits: Credits, place: int) -> str:
    """Return a sequence's words and pictures as one HTML section; `place` is its number."""
    shares = ", ".join(f"{kind} {credits.share(kind):.0%}" for kind in ("text", "image"))
    gap = "no gap known" if math.isnan(credits.gap) else f"gap {credits.gap:.2%}"
    warn = ' class="warn"' if credits.gap > Gap.LIMIT else ""
    facts = f"sum {float(credits.scores.sum()):+.4g} nats, {shares}, <span{warn}>{gap}</span>"
    explains = f'<p class="explains">{escape(credits.explains)}</p>\n' if credits.explains else ""
    return (
        f'<section>\n<h2><span class="place">{place}</span> {escape(credits.name)}</h2>\n'
        f'{explains}<p class="facts">{facts}</p>\n'
        f'<p class="words">{"".join(_words(credits))}</p>\n{_figure(credits)}</section>'
    )


def _words(credits: Credits) -> Iterator[str]:
    """Yield an element for each token that is no part of a picture, and one a run of those."""
    scale = word_scale(credits)
    for text, score, modality in chips(credits):
        title = f'title="{score:+.4g}"'
        if modality == "image":
            yield f'<span class="run" {title}>{text}</span>'
            continue
        shown = escape(text).replace("\n", '<span class="end">↵</span><br>')
        colour = f' style="background:{_colour(score, scale)}"' if score else ""
        yield f'<span class="token {modality}" {title}{colour}>{shown}</span>'


def _figure(credits: Credits) -> str:
    """Return each picture with its tokens over it, and those without a place below."""
    scores = credits.of("image")
    if not len(scores):
        return ""
    shown, left = "", scores
    if credits.pictures:
        drawn, scale = coloured(credits, SHORTEST)
        shown = "".join(
            _picture(*placed, over) for placed, over in zip(credits.placed(), drawn, strict=True)
        )
        said = f"full colour: {scale:.3g} nats for 1 % of a picture; "
        said += f"image tokens: sum {float(scores.sum()):+.4g}"
        shown += f"<figcaption>{said}</figcaption>"
        left = scores[~torch.cat([_has_place(picture) for picture in credits.pictures])]
    largest = float(scores.abs().max())
    tokens = "".join(
        f'<span class="token image" title="{score:+.4g}" '
        f'style="background:{_colour(score, largest)}"></span>'
        for score in left.tolist()
    )
    tokens = f'<p class="placeless">image tokens without a place: {tokens}</p>' if tokens else ""
    return f"<figure>{shown}{tokens}</figure>\n"


def _picture(picture: Picture, scores: Tensor, drawn: Image.Image) -> str:
    """Return a picture, and beside it its credit with a rectangle for each token."""
    placed = _has_place(picture)
    tokens = list(zip(scores[placed].tolist(), picture.boxes[placed].tolist(), strict=True))
    # Small boxes last, and so on top: they can be pointed at, and the larger ones around them.
    tokens.sort(key=lambda token: -(token[1][2] - token[1][0]) * (token[1][3] - token[1][1]))
    rects = "".join(_rectangle(score, box) for score, box in tokens)
    return (
        f'<div class="picture">{_image(sized(picture.image, SHORTEST), "the picture")}</div>'
        f'<div class="picture">{_image(drawn, "its credit")}'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{rects}</svg></div>'
    )


def _has_place(picture: Picture) -> Tensor:
    return picture.boxes.isfinite().all(dim=1)


def _rectangle(score: float, box: list[float]) -> str:
    x0, y0, x1, y1 = box
    place = f'x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}"'
    return f'<rect class="token image" {place}><title>{score:+.4g}</title></rect>'


def _colour(score: float, scale: float) -> str:
    share = strength(score, scale)
    red, green, blue = FOR if share > 0 else AGAINST
    return f"rgba({red},{green},{blue},{_OPAQUE * abs(share):.3f})"


def data_uri(picture: Image.Image) -> str:
    """Return a picture as the address that holds it."""
    file = io.BytesIO()
    picture.quantize(256).save(file, "PNG", optimize=True)  # a third of the bytes, for many pairs
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _image(picture: Image.Image, what: str) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img alt="{what}" {size} src="{data_uri(picture)}">'
