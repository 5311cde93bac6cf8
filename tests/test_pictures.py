"""Pictures of credits: sums that survive the drawing, colours that mean a sign, a sound page."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grains.credits import Credits, Picture
from grains.errors import GrainsError
from grains.pictures import density, heat_map, overlay, page
from grains.pictures.colours import LEGEND_HEIGHT, ink_on, mixed, printable, tint
from grains.pictures.overlay import coloured
from grains.pictures.words import chips, word_scale

PICTURE = Image.effect_noise((60, 40), 90).convert("RGB")
BOXES = torch.tensor(
    [
        [0.0, 0.0, 0.5, 1.0],
        [0.5, 0.0, 1.0, 1.0],
        [0.25, 0.25, 0.5, 0.75],  # of a tile: it overlaps the first
        [torch.nan] * 4,  # the end of a line
    ]
)
WORDS = ["<s>", " Is", " it", "\n", " red", "?", ":"]


def made(words=(0.0, 0.2, -0.1, 0.05, 0.4, -0.3, 0.0), image=(0.5, -0.2, 0.3, 0.1), **changes):
    """The credits of: BOS, four image tokens, words, and the end of a template."""
    settings = {
        "tokens": (WORDS[0], *["<image>"] * len(image), *WORDS[1:]),
        "scores": torch.tensor([words[0], *image, *words[1:]]),
        "modality": ("template", *["image"] * len(image), *["text"] * 5, "template"),
        "pictures": (Picture(PICTURE, BOXES[: len(image)]),),
        "gap": 0.01,
        "name": "pair-1",
        "explains": "log p('Yes.') - log p('No.')",
    }
    return Credits(**{**settings, **changes})


def spread(credits, width, height):
    """The credit on each pixel of the first picture."""
    picture, scores = credits.placed()[0]
    return density(picture.boxes, scores, (width, height))


def negated(credits):
    return dataclasses.replace(credits, scores=-credits.scores)


def tilt(picture):
    """How much redder than blue each pixel is: positive in orange, negative in blue, else 0."""
    pixels = np.asarray(picture, dtype=int)
    return pixels[..., 0] - pixels[..., 2]


# --- over the picture ---------------------------------------------------------------------------


@given(
    corners=st.lists(
        st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.001, 1)] * 2),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 99),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
)
@settings(max_examples=60, deadline=None)
def test_the_credit_over_a_picture_adds_up_to_the_scores_that_have_a_place(
    corners, seed, width, height
):
    boxes = [[x, y, min(1.0, x + w), min(1.0, y + h)] for x, y, w, h in corners]
    scores = torch.randn(len(boxes) + 1, generator=torch.Generator().manual_seed(seed))
    found = density(torch.tensor([*boxes, [torch.nan] * 4]), scores, (width, height))
    assert found.shape == (height, width)
    assert float(found.sum()) == pytest.approx(float(scores[:-1].sum()), abs=1e-5)


def test_credit_lies_in_its_box_and_nowhere_else_and_overlaps_add_up():
    found = spread(made(image=(0.5, -0.2, 0.3, 0.1)), 8, 8)
    area = 64
    assert found[0, 0] == pytest.approx(0.5 / (area / 2))
    assert found[4, 3] == pytest.approx(0.5 / (area / 2) + 0.3 / (area / 8))
    assert torch.allclose(found[:, 4:], torch.full((8, 4), -0.2 / (area / 2)).double())
    alone = spread(made(image=(0.0, 0.0, 0.3, 0.0)), 8, 8)
    assert (alone[2:6, 2:4] > 0).all()
    assert alone.count_nonzero() == 8


def test_a_flipped_sign_flips_the_colours_over_the_picture():
    credits = made(image=(0.5, -0.2, 0.0, 0.0))
    ([drawn], scale), ([other], same) = coloured(credits), coloured(negated(credits))
    assert scale == same > 0
    left, right = slice(None, drawn.width // 2 - 1), slice(drawn.width // 2 + 1, None)
    assert (tilt(drawn)[:, left] > 0).all() and (tilt(drawn)[:, right] < 0).all()
    assert (tilt(other)[:, left] < 0).all() and (tilt(other)[:, right] > 0).all()


def test_no_credit_leaves_the_picture_grey():
    [drawn], scale = coloured(made(image=(0.0,) * 4))
    assert scale == 0
    assert (tilt(drawn) == 0).all()
    assert np.asarray(drawn).std() > 0  # and it is still to be seen
    assert overlay(made(image=(0.0,) * 4)).width > 0


def test_the_legend_tells_the_credit_of_one_percent_of_the_picture():
    credits = made(image=(0.5, 0.0, 0.0, 0.0))
    assert coloured(credits)[1] == pytest.approx(0.5 / 50)  # half of the picture


@pytest.mark.parametrize(
    ("size", "drawn"), [((60, 40), (448, 299)), ((500, 250), (500, 250)), ((100, 2000), (32, 640))]
)
def test_small_pictures_are_enlarged_and_large_ones_reduced(size, drawn):
    credits = made(image=(0.1,) * 4, pictures=(Picture(Image.new("RGB", size), BOXES),))
    assert coloured(credits)[0][0].size == drawn
    shown = overlay(credits)
    assert shown.width >= 2 * drawn[0]
    assert shown.height >= drawn[1] + LEGEND_HEIGHT


def test_what_has_no_picture_is_refused():
    with pytest.raises(GrainsError, match="'pair-1' has no picture"):
        overlay(made(pictures=()))


def two(first=(0.5, 0.0), second=(0.0, -0.25)):
    """Credits of two pictures, each of a left and a right half."""
    shown = [Picture(Image.new("RGB", size, "gray"), BOXES[:2]) for size in ((60, 40), (40, 60))]
    return made(image=(*first, *second), pictures=tuple(shown))


def test_of_several_pictures_each_has_its_own_credit_on_one_scale():
    (left, right), scale = coloured(two())
    assert scale == pytest.approx(0.5 / 50)
    half, other = left.width // 2, right.width // 2
    assert (tilt(left)[:, : half - 1] > 0).all() and (tilt(left)[:, half + 1 :] == 0).all()
    assert (tilt(right)[:, : other - 1] == 0).all() and (tilt(right)[:, other + 1 :] < 0).all()
    # Half as strong is half as coloured; alone, it would be the strongest.
    assert np.abs(tilt(right)).max() < 0.7 * np.abs(tilt(left)).max()
    alone = coloured(two(first=(0.0, 0.0)))[0][1]
    assert np.abs(tilt(alone)).max() > 1.5 * np.abs(tilt(right)).max()
    # The opposite: the same scores the other way round are drawn the other way round.
    turned = coloured(two((0.0, -0.25), (0.5, 0.0)))[0]
    assert tilt(turned[0]).max() == 0 < tilt(turned[1]).max()


def test_several_pictures_stand_side_by_side_each_above_its_credit():
    shown = overlay(two())
    drawn, _ = coloured(two())
    assert shown.width >= sum(part.width for part in drawn)
    assert shown.height >= 2 * max(part.height for part in drawn) + LEGEND_HEIGHT
    pixels = np.asarray(shown).astype(int)
    above, below = pixels[: 16 + 448 + 8], pixels[16 + 448 + 8 : 2 * (16 + 448) + 8]
    assert (above[..., 0] == above[..., 2]).all()  # as they are
    assert (below[..., 0] > below[..., 2]).any() and (below[..., 0] < below[..., 2]).any()


# --- words --------------------------------------------------------------------------------------


def words_of(credits):
    """The drawn words, without heading and legend."""
    return heat_map(credits).crop((0, 84, 960, heat_map(credits).height - LEGEND_HEIGHT - 24))


def test_a_flipped_sign_flips_the_colours_of_words():
    both = made(words=(0.0, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0), image=(0.0,) * 4)
    assert tilt(words_of(both)).max() > 100 and tilt(words_of(both)).min() > -30
    assert tilt(words_of(negated(both))).min() < -100 and tilt(words_of(negated(both))).max() < 30


def test_no_credit_leaves_the_words_without_colour():
    none = made(words=(0.0,) * 7, image=(0.0,) * 4)
    assert word_scale(none) == 0
    assert np.abs(tilt(words_of(none))).max() < 15  # ink alone


def test_image_tokens_are_one_chip_with_their_share_and_every_other_token_has_its_own():
    row = list(chips(made()))
    assert [chip.text for chip in row if chip.modality != "image"] == WORDS
    (picture,) = [chip for chip in row if chip.modality == "image"]
    assert picture.text == "image: 4 tokens, share 51%, sum +0.7"  # 1.1 of 2.15
    assert picture.score == pytest.approx(0.7)


def test_the_chip_of_a_picture_is_uncoloured_alike_in_both_and_its_sum_is_in_figures():
    """Its sum may exceed the scale of words, which alone are coloured."""
    strong = made(words=(0.0,) * 7, image=(5.0, 4.0, 0.0, 0.0))
    assert word_scale(strong) == 0
    assert np.abs(tilt(words_of(strong))).max() < 15
    for text in (page([strong]), page([negated(strong)])):
        (chip,) = Reader(text).of("run")
        assert "style" not in chip
    assert "share 100%, sum +9<" in page([strong]) and "sum -9<" in page([negated(strong)])
    # The opposite: a word of that credit is coloured in both.
    word = made(words=(0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0), image=(0.0,) * 4)
    assert tilt(words_of(word)).max() > 100
    assert [token["title"] for token in Reader(page([word])).of("text") if "style" in token] == [
        "+9"
    ]


def test_two_runs_of_image_tokens_are_two_chips():
    credits = Credits(
        tokens=("<i>", "x", "<i>"),
        scores=torch.ones(3),
        modality=("image", "text", "image"),
    )
    said = "image: 1 token, share 33%, sum +1"
    assert [chip.text for chip in chips(credits)][::2] == [said] * 2


def test_two_pictures_in_a_row_are_two_chips():
    found = [chip for chip in chips(two()) if chip.modality == "image"]
    assert [chip.score for chip in found] == [0.5, -0.25]
    assert all(chip.text.startswith("image: 2 tokens, share ") for chip in found)
    assert len([chip for chip in chips(made()) if chip.modality == "image"]) == 1


def test_long_texts_stay_on_the_paper():
    tokens = (*(f" word{i}" for i in range(60)), "x" * 300, "\n")
    credits = Credits(
        tokens=tokens, scores=torch.ones(len(tokens)), modality=("text",) * len(tokens)
    )
    drawn = heat_map(credits)
    margin = np.asarray(drawn.crop((drawn.width - 20, 0, drawn.width, drawn.height)))
    assert (margin == 255).all()
    one = heat_map(dataclasses.replace(credits, tokens=("a",) * len(tokens)))
    assert drawn.height > one.height


def test_colours_are_read_on_and_neutral_in_the_middle():
    assert tint(0) == (255, 255, 255)
    assert tint(1)[0] > tint(1)[2] and tint(-1)[0] < tint(-1)[2]
    assert ink_on(tint(0)) != ink_on(tint(-1))
    assert mixed((0, 0, 0), (10, 20, 30), 0.5) == (5, 10, 15)


def test_letters_that_the_font_lacks_are_written_out():
    assert printable("plain ASCII, 1 + 1?") == "plain ASCII, 1 + 1?"
    assert printable("\u4e2d\t") == "\\u4e2d\\t"


# --- the page -----------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Follows a page: open elements, those of a class, what it would load, its text."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text, self.labels = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.seen.append((tag, given))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open[-2:] == ["rect", "title"]:
            self.labels.append(data)

    def of(self, kind):
        return [attrs for _, attrs in self.seen if kind in (attrs.get("class") or "").split()]


def test_the_page_is_whole_and_loads_nothing():
    hostile = '<script src="http://evil.example/x.js">alert("&")</script>'
    credits = made(name=hostile, explains=hostile)
    tokens = (*credits.tokens[:-2], hostile, ":")
    read = Reader(page([dataclasses.replace(credits, tokens=tokens)], title=hostile))
    assert not [tag for tag, _ in read.seen if tag in ("script", "link", "iframe", "object")]
    loads = [
        attrs[name] for _, attrs in read.seen for name in ("src", "href", "data") if name in attrs
    ]
    assert len(loads) == 2  # the picture, and its credit
    assert all(address.startswith("data:image/png;base64,") for address in loads)
    assert "url(" not in page([credits]) and "@import" not in page([credits])
    assert "".join(read.text).count(hostile) == 6  # title twice, gap, name, explanation, token


def test_every_token_is_on_the_page_once_with_its_number():
    credits = made()
    read = Reader(page([credits]))
    tokens = read.of("token")
    assert len(tokens) == len(credits.tokens)
    assert len(read.of("image")) == 4
    numbers = [attrs["title"] for attrs in tokens if "title" in attrs]
    assert len(read.labels) == 3  # the boxes, for a line's end lies below the picture
    numbers += read.labels
    assert sorted(map(float, numbers)) == pytest.approx(sorted(credits.scores.tolist()))
    assert len(read.of("template")) == 2
    whole = "".join(read.text)
    assert " Is it\u21b5 red?:" in whole


def test_a_page_of_many_has_a_summary_and_the_strongest_first():
    weak = made(words=(0.0, 0.01, 0, 0, 0, 0, 0), image=(0.01, 0, 0, 0), name="weak", gap=0.2)
    strong = made(name="strong")
    text = page([weak, strong], "A fit")
    assert text.index("</span> strong</h2>") < text.index("</span> weak</h2>")
    read = Reader(text)
    assert len(read.of("warn")) == 1
    whole = " ".join(read.text)
    assert "51%" in whole and "50%" in whole
    assert "over 5%: 1 pairs (weak)" in whole
    assert "2, those with most credit by magnitude first" in whole
    assert "most credit" not in page([strong])
    assert len([tag for tag, _ in read.seen if tag == "section"]) == 2


def test_a_page_of_words_alone_has_no_picture():
    credits = Credits(tokens=("a", " b"), scores=torch.tensor([0.1, -0.2]), modality=("text",) * 2)
    read = Reader(page([credits]))
    assert not [tag for tag, _ in read.seen if tag in ("img", "figure", "svg")]
    assert "promises none" in "".join(read.text)
    first, second = read.of("token")
    assert "rgba(230,97,1," in first["style"] and "rgba(38,109,191,0.75" in second["style"]


def test_image_tokens_without_boxes_are_on_the_page_all_the_same():
    read = Reader(page([made(pictures=())]))
    assert len(read.of("token")) == len(made().tokens)
    assert not [tag for tag, _ in read.seen if tag == "img"]


def test_a_page_shows_each_of_several_pictures_with_its_own_tokens():
    text = page([two()])
    read = Reader(text)
    assert len([tag for tag, _ in read.seen if tag == "img"]) == 4
    assert len(read.of("run")) == 2 and len(read.of("image")) == 4
    first, second = (part.partition("</svg>")[0] for part in text.split("<svg")[1:])
    assert "<title>+0.5<" in first and "<title>-0.25<" in second
    assert "<title>+0.5<" not in second and "<title>-0.25<" not in first


def test_a_page_of_nothing_is_refused():
    with pytest.raises(GrainsError, match="no credits"):
        page([])
