"""Pictures and the data sets that hold them: opened right, refused by name, skipped when asked."""

import base64
import io
import json
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from grains.data import MMMU, POPE, SPAVL, MMHalBench, PairFile, images_of, open_image
from grains.data.base import image_sha256
from grains.data.images import MAX_ASPECT, MAX_PIXELS, MIN_SIDE, ImageError
from grains.data.mmmu import SUBJECTS
from grains.errors import GrainsError
from grains.types import ContrastivePair
from tests.drawn import NAMES, draw_pictures, picture
from tests.saying import says
from tests.test_data import ROWS

pytestmark = pytest.mark.usefixtures("no_data_folder")

ORIENTATION = 0x0112


def encoded(image: Image.Image, form: str = "PNG", **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def noise(width: int, height: int) -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


def png_of_size(width: int, height: int) -> bytes:
    """Return a file of a few bytes that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Opening ---------------------------------------------------------------------------------------


def test_all_ways_to_give_a_picture_open_the_same(tmp_path):
    drawn, path = noise(9, 5), tmp_path / "a.png"
    path.write_bytes(content := encoded(drawn))
    ways = [path, str(path), content, bytearray(content), {"bytes": content, "path": "gone.png"}]
    ways += [{"bytes": None, "path": str(path)}, drawn, Image.open(io.BytesIO(content))]
    for way in ways:
        assert np.array_equal(pixels(open_image(way)), np.asarray(drawn))
    assert not np.array_equal(pixels(open_image(noise(9, 5).rotate(180))), np.asarray(drawn))


def test_an_opened_picture_does_not_need_its_file(tmp_path):
    path = tmp_path / "a.png"
    noise(9, 5).save(path)
    opened = open_image(path)
    path.unlink()
    assert np.array_equal(pixels(opened), np.asarray(noise(9, 5)))


def test_a_picture_is_turned_as_its_exif_data_says_and_only_once():
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # taken with the camera on its side
    opened = open_image(encoded(noise(9, 5), exif=exif))
    assert opened.size == (5, 9)
    assert np.array_equal(pixels(opened), np.rot90(np.asarray(noise(9, 5)), -1))
    assert np.array_equal(pixels(open_image(opened)), pixels(opened))
    exif[ORIENTATION] = 1
    assert open_image(encoded(noise(9, 5), exif=exif)).size == (9, 5)


def test_transparent_parts_are_laid_on_white():
    drawn = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    drawn.paste((10, 20, 30, 255), (0, 0, 8, 4))
    drawn.putpixel((0, 7), (0, 0, 0, 51))
    opened = pixels(open_image(encoded(drawn)))
    assert (opened[:4] == (10, 20, 30)).all() and (opened[4:7] == 255).all()
    assert (opened[7, 0] == 204).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (pixels(open_image(encoded(palette))) == 9).all()
    assert (pixels(open_image(encoded(palette, transparency=1))) == 255).all()


def test_other_modes_become_rgb_and_sixteen_bits_keep_the_upper_eight():
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 255
    opened = pixels(open_image(encoded(Image.fromarray(grey))))
    assert np.array_equal(opened[..., 0], np.arange(256).reshape(16, 16))
    for mode in ("1", "L", "CMYK", "YCbCr"):
        assert pixels(open_image(noise(8, 8).convert(mode))).shape == (8, 8, 3)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(open_image(moving)) == (255, 0, 0)).all()


JPEG = encoded(noise(64, 64), "JPEG")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("no.png", ["'no.png' does not exist; wanted a picture file"]),
        ("/", ["'/' is a folder; wanted a picture file"]),
        ("", ["'' is an empty text; wanted a picture file"]),
        ("https://a.b/c.png", ["'https://a.b/c.png' is an address; wanted a picture file"]),
        ("a\0b", ["cannot be read"]),
        (b"", ["(0 bytes) is empty"]),
        (b"not a picture", ["(13 bytes) is not a picture", "wanted one of JPEG, PNG"]),
        (EPS, ["is not a picture"]),
        (JPEG[:200], ["(200 bytes) cannot be read"]),
        (JPEG[:-400], ["cannot be read", "truncated"]),
        (encoded(noise(64, 64))[:6000], ["(6,000 bytes) cannot be read", "truncated"]),
        (png_of_size(10_000, 10_000), ["10000 x 10000", "at most 64,000,000 pixels"]),
        (png_of_size(60_000, 60_000), ["more pixels than Pillow", "64,000,000"]),
        (Image.new("RGB", (0, 9)), ["0 x 9 pixels", "at least 4"]),
        (Image.new("RGB", (9, 3)), ["9 x 3 pixels", "at least 4"]),
        (Image.new("1", (4 * 200 + 1, 4)), ["801 x 4 pixels", "at most 200 times"]),
        (Image.new("F", (9, 9)), ["floating-point"]),
        (torch.zeros(3, 9, 9), ["is a Tensor; wanted a path, bytes or a PIL image"]),
        ({"bytes": None, "path": None}, ["is a dict; wanted"]),
        ({}, ["is a dict; wanted"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_picture_that_cannot_be_used_is_refused_in_one_line(given, parts):
    with says("pair 'x': the image ", *parts):
        open_image(given, "pair 'x'")
    with pytest.raises(GrainsError, match=r"\Athe image "):
        open_image(given)


def test_every_cut_of_a_file_is_refused_and_the_whole_is_not():
    for content in (encoded(noise(16, 16)), encoded(noise(16, 16), "JPEG")):
        open_image(content)
        for end in range(0, len(content) - 40, 97):
            with pytest.raises(ImageError):
                open_image(content[:end])


def test_a_huge_picture_is_never_decoded(monkeypatch):
    def load(_):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    side = int(MAX_PIXELS**0.5)
    with pytest.raises(ImageError, match="at most"):
        open_image(png_of_size(side + 1, side + 1))
    with pytest.raises(ImageError, match="decoded"):  # one that is small enough would be
        open_image(png_of_size(side, side))


def test_the_bounds_are_inclusive():
    assert open_image(noise(10, 10), max_pixels=100).size == (10, 10)
    with says("10 x 10 pixels; wanted at most 99"):
        open_image(noise(10, 10), max_pixels=99)
    open_image(Image.new("1", (MIN_SIDE * MAX_ASPECT, MIN_SIDE)))


def test_the_bounds_are_those_of_transformers():
    from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    read = {height: infer_channel_dimension_format(np.zeros((height, 9, 3))) for height in (1, 3)}
    assert set(read.values()) == {ChannelDimension.FIRST}  # rows taken for channels
    tall = np.zeros((MIN_SIDE, 9, 3))
    assert infer_channel_dimension_format(tall) == ChannelDimension.LAST
    smart_resize(28, 28 * MAX_ASPECT)
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(28, 28 * MAX_ASPECT + 28)


def pair(image, **more) -> ContrastivePair:
    return ContrastivePair(prompt="What?", chosen="A cat.", rejected="A dog.", image=image, **more)


def test_a_pair_has_no_picture_one_or_several_in_order():
    drawn = [picture(number) for number in range(3)]
    assert images_of(pair(None)) == ()
    assert images_of(pair(drawn[0])) == (drawn[0],) == images_of(pair((drawn[0],)))
    assert images_of(pair(tuple(drawn))) == tuple(drawn) != images_of(pair(tuple(drawn[::-1])))


def test_the_pair_and_the_place_of_a_broken_picture_are_named():
    with says("pair 'x': the image 'no.png' does not exist"):
        images_of(pair("no.png", id="x"))
    with says("the pair with prompt 'What?', picture 2: the image 'no.png'"):
        images_of(pair((picture(0), "no.png")))
    with says("pair 'x'", "at most 10 pixels"):
        images_of(pair(picture(0), id="x"), max_pixels=10)


def test_a_picture_counts_by_its_content_wherever_it_lies(tmp_path):
    content = encoded(picture(1))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content)
    ways = [tmp_path / "a.png", str(tmp_path / "b.png"), content, {"bytes": content, "path": "c"}]
    assert len({image_sha256(way) for way in (*ways, (content,))}) == 1
    others = [None, encoded(picture(2)), (content, content), (content, encoded(picture(2)))]
    others += [(encoded(picture(2)), content), picture(1), torch.zeros(2)]
    assert len({image_sha256(way) for way in (content, *others)}) == 1 + len(others)
    flat = [Image.new("L", size) for size in ((4, 6), (6, 4))]  # the same bytes
    assert image_sha256(flat[0]) != image_sha256(flat[1]) == image_sha256(flat[1].copy())
    assert image_sha256(None) == image_sha256(()) == ""
    with says("the image is a int"):
        image_sha256(3)


# Broken rows: refused, or skipped where that is asked -------------------------------------------


def write_pairs(folder: Path, images: list) -> Path:
    rows = [
        {"prompt": f"What is {number}?", "chosen": "A cat.", "rejected": "A dog.", "image": image}
        for number, image in enumerate(images, start=1)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def mixed(tmp_path):
    """A file of six rows: without picture, good, missing, no picture, cut short, too large."""
    (tmp_path / "good.png").write_bytes(encoded(picture(1)))
    (tmp_path / "text.png").write_bytes(b"text")
    (tmp_path / "cut.jpg").write_bytes(JPEG[:-400])
    (tmp_path / "huge.png").write_bytes(png_of_size(9000, 9000))
    names = [None, "good.png", "missing.png", "text.png", "cut.jpg", "huge.png"]
    return write_pairs(tmp_path, names)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing.png", "no such file in the folder"),
        ("text.png", "is not a picture"),
        ("cut.jpg", "truncated"),
        ("huge.png", "9000 x 9000 pixels"),
    ],
)
def test_a_broken_picture_is_refused_with_its_line(mixed, name, why):
    path = write_pairs(mixed.parent, ["good.png", name])
    with says("pairs.jsonl, line 2", name, why):
        PairFile(path=path).pairs()


def test_broken_rows_are_skipped_with_one_warning_that_counts_and_names_them(mixed):
    with pytest.warns(UserWarning) as caught:
        kept = PairFile(path=mixed, broken="skip").pairs()
    assert [pair.prompt for pair in kept] == ["What is 1?", "What is 2?"]
    assert [pair.id for pair in kept] == ["pairs-0001", "pairs-0002"]
    (said,) = (str(warning.message) for warning in caught)
    assert said.startswith("left out 4 of 6 rows have a broken or missing image")
    for part in ("line 3: image is 'missing.png'", "line 4", "line 5", "and 1 more"):
        assert part in said
    assert "\n" not in said and "line 6" not in said


def test_nothing_is_said_where_nothing_is_skipped(mixed):
    path = write_pairs(mixed.parent, ["good.png", None])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skipping = PairFile(path=path, broken="skip").pairs()
    assert skipping == PairFile(path=path).pairs() and len(skipping) == 2


def test_all_broken_is_an_error_even_if_skipping_is_asked_for(mixed):
    path = write_pairs(mixed.parent, ["missing.png", "text.png"])
    with says("2 of 2 rows", "line 1", "line 2", "wanted at least one"):
        PairFile(path=path, broken="skip").pairs()


@pytest.mark.parametrize("image", ["../outside.png", 3, ["good.png", 3], ["../outside.png"]])
def test_other_faults_are_never_skipped(mixed, image):
    path = write_pairs(mixed.parent, ["good.png", image])
    with says("line 2", "image "):
        PairFile(path=path, broken="skip").pairs()


def test_a_list_is_several_pictures_in_order(mixed):
    (mixed.parent / "other.png").write_bytes(encoded(picture(2)))
    names = ["other.png", "good.png"]
    path = write_pairs(mixed.parent, [names, names[:1], [], names[::-1]])
    several, one, none, turned = PairFile(path=path).pairs()
    assert [Path(image).name for image in several.image] == names
    first, second = images_of(several)
    assert images_of(turned) == (second, first) != (first, second)
    assert images_of(one) == (first,) and none.image is None
    for entry, why in ((["good.png", "missing.png"], "image 2 is 'missing.png'"), ([""], "empty")):
        path = write_pairs(mixed.parent, ["good.png", entry])
        with says("line 2", why):
            PairFile(path=path).pairs()
        with pytest.warns(UserWarning, match="left out 1 of 2"):
            assert len(PairFile(path=path, broken="skip").pairs()) == 1


@pytest.mark.parametrize("nested", [False, True])
def test_a_picture_in_base64_is_not_quoted_whole(mixed, nested):
    text = base64.b64encode(JPEG).decode()
    path = write_pairs(mixed.parent, ["good.png", [text] if nested else text])
    with says(f"line 2: image is '{text[:60]}' ... ({len(text):,} characters); wanted a path"):
        PairFile(path=path).pairs()
    with says(f"pair 'x': the image '{text[:60]}' ... ({len(text):,} characters) cannot be read"):
        open_image(text, "pair 'x'")
    # The opposite: a path is told in full, though it be long.
    with says(f"'{'folder/' * 14}no.png' does not exist"):
        open_image("folder/" * 14 + "no.png")


def test_broken_is_refuse_or_skip(mixed):
    with says("broken is 'ignore'", "refuse, skip"):
        PairFile(path=mixed, broken="ignore").pairs()


def test_parquet_holds_paths_bytes_or_both_as_the_hub_writes_them(tmp_path):
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    content = encoded(picture(1))
    (tmp_path / "a.png").write_bytes(content)
    texts = {"prompt": "What?", "chosen": "A cat.", "rejected": "A dog."}
    both = [{"bytes": content, "path": "gone.png"}, {"bytes": None, "path": "a.png"}, None]
    columns = {"paths": ["a.png", "a.png", None], "bytes": [content, content, None], "both": both}
    read = {}
    for name, images in columns.items():
        rows = [{**texts, "id": str(i), "image": image} for i, image in enumerate(images)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        read[name] = PairFile(path=tmp_path / f"{name}.parquet")
    shas = {name: data.source(data.pairs())["sha256"] for name, data in read.items()}
    assert len(set(shas.values())) == 1
    assert [type(pair.image) for pair in read["both"].pairs()] == [
        bytes,
        type(tmp_path),
        type(None),
    ]
    broken = [{**texts, "image": {"bytes": content[:60], "path": "a.png"}}]
    parquet.write_table(pyarrow.Table.from_pylist(broken), tmp_path / "broken.parquet")
    with says("broken.parquet, row 1", "(60 bytes) cannot be read"):
        PairFile(path=tmp_path / "broken.parquet").pairs()


# The data sets ----------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path):
    return {"data_dir": str(ROWS), "image_dir": str(draw_pictures(tmp_path / "pictures"))}


def number_of(image) -> int:
    return NAMES.index(Path(image).name)


def test_pope_sets_the_label_against_the_other_answer(places):
    read = POPE(**places).pairs()
    assert [(pair.chosen, pair.rejected) for pair in read] == [("Yes", "No"), ("No", "Yes")] * 2
    assert [pair.id for pair in read] == [f"pope-random-000{i}" for i in (1, 2, 3, 4)]
    assert [number_of(pair.image) for pair in read] == [0, 0, 1, 1]
    assert read[1].prompt == "Is there a violin in the image?" and read[1].template == "chat"
    popular = POPE(split="popular", template="qa", **places).pairs()
    assert popular[1].prompt == "Is there a chair in the image?" and popular[1].template == "qa"
    assert popular[0].prompt == read[0].prompt  # the splits differ in what is not there


def test_each_picture_is_opened_once(places, monkeypatch):
    opened = []

    def counting(image, *rest):
        opened.append(image)
        return open_image(image, *rest)

    monkeypatch.setattr("grains.data.gallery.open_image", counting)
    assert len(POPE(**places).pairs()) == 4 and len(opened) == 2


def test_pictures_lie_beside_the_file_or_in_its_folders(tmp_path):
    rows = (ROWS / "pope_coco_random.jsonl").read_text()
    for folder in ("", "images", "val2014"):
        data = tmp_path / f"with-{folder}"
        draw_pictures(data / folder)
        (data / "pope_coco_random.jsonl").write_text(rows)
        assert Path(POPE(data_dir=str(data)).pairs()[0].image).parent == data / folder
    (bare := tmp_path / "bare").mkdir()
    (bare / "pope_coco_random.jsonl").write_text(rows)
    with says("line 1", NAMES[0], "no such file in the folder", f"{bare}/val2014 or", "images"):
        POPE(data_dir=str(bare)).pairs()
    with says("image_dir is", str(tmp_path / "no"), "wanted a folder"):
        POPE(data_dir=str(bare), image_dir=str(tmp_path / "no")).pairs()
    with says(str(bare / "pope_coco_popular.jsonl"), "does not exist", "'pope'"):
        POPE(split="popular", data_dir=str(bare)).pairs()


def test_csv_and_jsonl_say_the_same(places, tmp_path):
    rows = [json.loads(row) for row in (ROWS / "pope_coco_random.jsonl").read_text().splitlines()]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "pope_coco_random.csv").write_text("\n".join(lines))
    elsewhere = {**places, "data_dir": str(tmp_path)}
    assert POPE(**elsewhere).pairs() == POPE(**places).pairs()


def test_spa_vl_sets_the_safe_answer_against_the_unsafe_one(places):
    first, *_ = SPAVL(**places).pairs()
    assert first.chosen.startswith("If it is yours") and first.rejected.startswith("Just break it")
    assert number_of(first.image) == NAMES.index("101.jpg")
    assert (first.id, first.template) == ("spa-vl-validation-00000", "chat")
    with says("spa_vl_train.jsonl", "does not exist"):
        SPAVL(part="train", **places).pairs()


def write_rows(folder: Path, name: str, **changes) -> str:
    """Write the first row of a file of ours with some fields changed."""
    row = json.loads((ROWS / name).read_text().splitlines()[0])
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({**row, **changes}))
    return str(folder)


def test_broken_rows_of_a_benchmark(places, tmp_path):
    def changed(name, **changes):
        return {**places, "data_dir": write_rows(tmp_path / "rows", name, **changes)}

    with says("line 1", "label is 'maybe'", "'yes' or 'no'"):
        POPE(**changed("pope_coco_random.jsonl", label="maybe")).pairs()
    for image in (None, ""):
        with says("line 1", "image is empty"):
            SPAVL(**changed("spa_vl_validation.jsonl", image=image)).pairs()
    mmmu = "mmmu_validation.jsonl"
    with says("line 1", "answer is 'D'", "ABC"):
        MMMU(**changed(mmmu, answer="D")).pairs()
    with says("line 1", "answer is '?'"):
        MMMU(**changed(mmmu, answer="?")).pairs()
    for options in ("__import__('os').getcwd()", "['A'", "3", "['A', 2]"):
        with says("line 1", "options is", "list of texts"):
            MMMU(**changed(mmmu, options=options)).pairs()
    with says("line 1", "options holds 1"):
        MMMU(**changed(mmmu, options="['A']")).pairs()
    with says("line 1", "names <image 2>", "there are 1 images"):
        MMMU(**changed(mmmu, question="What is in <image 1> and <image 2>?")).pairs()
    with says("line 1", "image_2 is empty"):
        MMMU(**changed(mmmu, image_4="math_2_1.png")).pairs()
    with says("none of the 1 questions has options"):
        MMMU(**changed(mmmu, question_type="open", options="[]")).pairs()


def test_mmmu_lists_the_options_and_answers_with_a_letter(places):
    coat, angle, figure = MMMU(**places).pairs()  # the open question makes no pair
    assert coat.prompt == (
        "What hangs in <image 1>?\n(A) A mobile\n(B) A painter's coat\n(C) A bell\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert coat.chosen == "B" and coat.rejected in "AC"
    assert angle.chosen == "A" and angle.rejected in "BCD"
    assert (figure.chosen, figure.rejected) == ("B", "A")
    names = [[Path(image).name for image in pair.image] for pair in (coat, angle, figure)]
    assert names == [
        ["art_1_1.png"],
        ["math_2_1.png", "math_2_2.png"],
        ["math_3_1.png", "math_3_2.png", "math_3_3.png"],
    ]


def test_mmmu_in_words_leaves_out_options_that_are_pictures(places):
    coat, angle = MMMU(form="text", **places).pairs()
    assert coat.prompt.endswith("(C) A bell") and coat.chosen == "A painter's coat"
    assert coat.rejected in ("A mobile", "A bell") and angle.chosen == "The left"


def test_mmmu_against_all_wrong_options_or_one_drawn_by_seed(places):
    every = MMMU(against="all", **places).pairs()
    assert [(pair.id[-6:], pair.chosen, pair.rejected) for pair in every[:2]] == [
        ("ry_1-A", "B", "A"),
        ("ry_1-C", "B", "C"),
    ]
    assert len(every) == 2 + 3 + 1 and len({pair.id for pair in every}) == 6
    draws = [[pair.rejected for pair in MMMU(seed=seed, **places).pairs()] for seed in range(12)]
    assert len(set(map(tuple, draws))) > 1
    assert draws[3] == [pair.rejected for pair in MMMU(seed=3, **places).pairs()]
    alone = MMMU(seed=3, subject="Math", **places).pairs()
    assert [pair.rejected for pair in alone] == draws[3][1:]  # whatever else is read
    for pair in MMMU(**places).pairs():
        assert (pair.chosen, pair.rejected) in {(each.chosen, each.rejected) for each in every}


def test_mmmu_by_subject_and_open_questions(places):
    read = MMMU(**places).questions()
    assert [len(question.options) for question in read] == [3, 4, 2, 0]
    assert read[3].answer == "['2.5', '5/2']" and read[3].kind == "open"
    art = MMMU(subject="Art_Theory", **places).questions()
    assert art == read[:1]
    with says("no question has the subject 'Art'"):  # of which Art_Theory is not a part
        MMMU(subject="Art", **places).questions()
    with says("no subject 'Maths'", "did you mean 'Math'"):
        MMMU(subject="Maths")
    assert len(SUBJECTS) == len(set(SUBJECTS)) == 30


def test_mmhal_bench_is_read_as_questions(places):
    counting, adversarial = MMHalBench(**places).questions()
    assert counting.prompt.startswith("How many kettles") and counting.kind == "counting"
    assert counting.answer == "There is one kettle on the stove."
    assert counting.objects == ("Kettle", "Stove") and counting.options == ()
    assert Path(adversarial.image).name == "ladder_o.jpg"  # the address without its query
    assert counting.id != adversarial.id


def test_questions_are_skipped_as_pairs_are(places):
    (Path(places["image_dir"]) / "ladder_o.jpg").unlink()
    with says("line 2", "ladder_o.jpg", "no such file"):
        MMHalBench(**places).questions()
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        assert len(MMHalBench(broken="skip", **places).questions()) == 1


# The hub ----------------------------------------------------------------------------------------


class HubImage:
    """Stands for `datasets.Image`."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class HubData:
    """Stands for a data set of the hub, whose pictures come decoded unless that is turned off."""

    def __init__(self, records: list, features: dict) -> None:
        self.records, self.features = records, features

    def cast_column(self, name, feature):
        return HubData(self.records, {**self.features, name: feature})

    def __iter__(self):
        for record in self.records:
            yield {
                name: open_image(value) if value and decoded(self.features[name]) else value
                for name, value in record.items()
            }


def decoded(feature) -> bool:
    return isinstance(feature, HubImage) and feature.decode


@pytest.fixture
def hub(monkeypatch):
    """A hub that gives the same rows to all, and remembers what was asked."""
    first, second = ({"bytes": encoded(picture(i)), "path": f"{i}.png"} for i in (1, 2))
    same = {**first, "bytes": bytes(bytearray(first["bytes"]))}  # equal, another object
    asked = {"question_id": "1", "question": "Is there a cup?", "answer": "yes"}
    spa = {"question": "How?", "chosen": "Do not.", "rejected": "So.", "image_name": "1.jpg"}
    choice = {"options": "['One', 'Two']", "question_type": "multiple-choice", "answer": "B"}
    empty = {f"image_{number}": None for number in range(2, 8)}
    kept = {
        "lmms-lab/POPE": [
            {**asked, "image": first},
            {**asked, "image": same},
            {**asked, "answer": "no", "image": second},
        ],
        "sqrti/SPA-VL": [{**spa, "image": first}],
        "MMMU/MMMU": [{**choice, "question": "<image 1>?", "image_1": first, **empty}],
    }
    seen = []

    def load_dataset(repository, config=None, *, split):
        seen.append((repository, config, split))
        records = kept[repository]
        if repository == "MMMU/MMMU":
            records = [{**record, "id": f"{split}_{config}_1"} for record in records]
        features = {
            name: HubImage() if name.startswith("image") and name != "image_name" else "string"
            for name in records[0]
        }
        return HubData(records, features)

    module = ModuleType("datasets")
    module.load_dataset, module.Image = load_dataset, HubImage
    monkeypatch.setitem(sys.modules, "datasets", module)
    return seen


def test_pictures_of_the_hub_stay_files_and_equal_ones_are_one_object(hub):
    one, same, other = POPE(split="adversarial").pairs()
    assert [pair.chosen for pair in (one, same, other)] == ["Yes", "Yes", "No"]
    assert one.image == encoded(picture(1)) and one.image is same.image
    assert other.image == encoded(picture(2))
    assert SPAVL().pairs()[0].image == one.image
    assert SPAVL(part="train").pairs()[0].chosen == "Do not."
    assert hub == [
        ("lmms-lab/POPE", "Full", "adversarial"),
        ("sqrti/SPA-VL", "validation", "validation"),
        ("sqrti/SPA-VL", None, "train"),
    ]


def test_mmmu_of_the_hub_is_one_subject_or_all(hub):
    (read,) = MMMU(subject="Art_Theory", part="dev").pairs()
    assert (read.id, read.chosen, read.rejected) == ("dev_Art_Theory_1", "B", "A")
    assert hub == [("MMMU/MMMU", "Art_Theory", "dev")]
    assert [pair.id.split("_", 1)[1][:-2] for pair in MMMU().pairs()] == list(SUBJECTS)


def test_a_hub_that_does_not_answer_or_is_not_installed(hub, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", refuse)
    with says("lmms-lab/POPE", "ConnectionError: no route", "data_dir"):
        POPE().pairs()
    monkeypatch.setitem(sys.modules, "datasets", None)
    for dataset, stem in (
        (POPE(), "pope_coco_random"),
        (SPAVL(), "spa_vl_validation"),
        (MMMU(), "mmmu_validation"),
    ):
        with says(f"{stem}.jsonl", "data_dir", "GRAINS_DATA", "grains-steering[hub]"):
            dataset.pairs()


def write_archive(path: Path, images: list[str]) -> str:
    records = (ROWS / "mmhal_bench.jsonl").read_text().splitlines()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test_data/response_template.json", f"[{','.join(records)}]")
        for name in images:
            drawn = encoded(picture(NAMES.index(name)), "JPEG")
            archive.writestr(f"test_data/images/{name}", drawn)
    return str(path)


def test_mmhal_bench_of_the_hub_is_its_archive(tmp_path, monkeypatch):
    asked = []

    def download(repository, name, *, repo_type):
        asked.append((repository, name, repo_type))
        return archive

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    archive = write_archive(tmp_path / "a.zip", ["kettle_o.jpg", "ladder_o.jpg"])
    read = MMHalBench().questions()
    assert [open_image(question.image).size for question in read] == [(12, 8)] * 2
    assert [question.kind for question in read] == ["counting", "adversarial"]
    assert asked == [("Shengcao1006/MMHal-Bench", "test_data.zip", "dataset")]
    archive = write_archive(tmp_path / "b.zip", ["kettle_o.jpg"])
    with says("MMHal-Bench, row 2", "(0 bytes) is empty"):
        MMHalBench().questions()
    archive = str(ROWS / "pairs.csv")
    with says("MMHal-Bench could not be read from the hub", "BadZipFile", "data_dir"):
        MMHalBench().questions()
