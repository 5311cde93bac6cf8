"""Credits of a pair: what the attributor found, token by token; and the command that shows them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image

from grains import SteeringDataModule, SteeringVector, objectives
from grains.attributors import ATTRIBUTORS, IntegratedGradients
from grains.card import new_card
from grains.cli import main
from grains.credits import LONGEST, Credits, Picture, explain, fit_settings, texts_of
from grains.errors import GrainsError
from grains.injectors import INJECTORS
from grains.models import SteerableModel
from grains.sources import SOURCES
from grains.types import ContrastivePair
from tests.tiny import TINY, WIDTH, tiny_tokenizer
from tests.tiny_vision import picture, seeing, tiny_processor, tiny_vision

SHORT = ContrastivePair(prompt="Where?", chosen="Here and there", rejected="No", id="short")
LONG = ContrastivePair(
    prompt="What happens if you swallow a seed?", chosen="Nothing much", rejected="It is", id="long"
)
IG = {"name": "integrated_gradients", "steps": 8, "tolerance": None}


@pytest.fixture(scope="module")
def llava():
    return SteerableModel(tiny_vision("llava"), tiny_processor("llava"))


def by_hand(objective, model, attributor):
    start = objective.baseline(model.filler("mean"))
    return ATTRIBUTORS.build(attributor).attribute(objective.score, objective.inputs, start)


# --- what is found ------------------------------------------------------------------------------


@pytest.mark.parametrize("attributor", [IG, "gradient_x_input", "occlusion"])
def test_the_prompt_is_credited_as_by_hand(tiny, attributor):
    model, pairs = tiny(), [SHORT, LONG]
    found = by_hand(objectives.contrast(model, pairs), model, attributor)
    mask = model.encode(pairs, None).attention_mask.bool()
    for row, credits in enumerate(explain(model, pairs, attributor)):
        assert torch.equal(credits.scores, found.scores[row][mask[row]])
        assert credits.scores.abs().sum() > 0
        assert credits.name == pairs[row].id
        if attributor == IG:
            assert credits.gap == float(found.gap[row])


def test_each_sequence_is_credited_as_by_hand(tiny):
    model, pairs = tiny(), [SHORT, LONG]
    credits = explain(model, pairs, IG, scope="sequence")
    assert [one.name for one in credits] == [
        f"{name} ({side})" for name in ("short", "long") for side in ("chosen", "rejected")
    ]
    for place, side in enumerate(("chosen", "rejected")):
        objective, encoded = objectives.likelihood(model, pairs, side)
        found = by_hand(objective, model, IG)
        for row in range(2):
            kept = encoded.attention_mask[row].bool()
            one = credits[2 * row + place]
            assert torch.equal(one.scores, found.scores[row][kept])
            assert one.explains == f"log p({getattr(pairs[row], side)!r})"


def test_padding_is_left_out_and_the_tokens_are_the_prompt(tiny):
    short, long = explain(tiny(), [SHORT, LONG], "random")
    assert "".join(short.tokens) == "Q: Where?\nA:"
    assert "".join(long.tokens) == "Q: What happens if you swallow a seed?\nA:"
    assert short.explains == "log p('Here and there') - log p('No')"
    assert short.pictures == () and short.boxes is None


def test_the_template_has_no_credit_and_the_words_have(tiny):
    (credits,) = explain(tiny(), [LONG], IG)
    words = "".join(
        text for text, kind in zip(credits.tokens, credits.modality, strict=True) if kind == "text"
    )
    assert words.strip() == LONG.prompt
    assert set(credits.modality) == {"text", "template"}
    assert (credits.of("template") == 0).all() and len(credits.of("template")) > 3
    assert (credits.of("text") != 0).all()
    assert credits.share("text") == 1
    assert credits.share("template") == credits.share("image") == 0


def test_an_attributor_is_given_by_name_by_settings_or_as_an_object(tiny):
    ways = [IG, IntegratedGradients(steps=8, tolerance=None)]
    one, other = (explain(tiny(), [SHORT], way)[0].scores for way in ways)
    assert torch.equal(one, other)
    assert not torch.equal(one, explain(tiny(), [SHORT], {**IG, "steps": 1})[0].scores)


def test_a_wrong_setting_is_refused(tiny):
    with pytest.raises(GrainsError, match="did you mean 'prompt'"):
        explain(tiny(), [SHORT], scope="promt")
    with pytest.raises(GrainsError, match="did you mean 'occlusion'"):
        explain(tiny(), [SHORT], "oclusion")


def test_a_credit_for_each_token_a_box_for_each_image_token():
    given = {"tokens": ("a", "b"), "scores": torch.zeros(2), "modality": ("text", "image")}
    whole = Credits(**given, pictures=(Picture(picture(0), torch.zeros(1, 4)),))
    assert whole.share("text") == 0  # of nothing
    for changes, words in (
        ({"scores": torch.zeros(3)}, "3 scores"),
        ({"modality": ("text",)}, "1 modalities"),
        ({"pictures": whole.pictures * 2}, "2 boxes"),
    ):
        with pytest.raises(GrainsError, match=words):
            dataclasses.replace(whole, **changes)


def test_a_share_is_of_a_modality_that_there_is():
    some = Credits(tokens=("a", "b"), scores=torch.tensor([1.0, -3.0]), modality=("text", "image"))
    assert (some.share("image"), some.share("text"), some.share("template")) == (0.75, 0.25, 0)
    for asked in (some.share, some.of):
        with pytest.raises(GrainsError, match="the modality is 'images'; did you mean 'image'"):
            asked("images")
    with pytest.raises(GrainsError, match=r"'pictures'; .*there are: image, template, text"):
        dataclasses.replace(some, scores=torch.zeros(2)).share("pictures")


def test_tokens_keep_their_blanks_also_where_decoding_drops_the_first():
    class Dropping:
        """Decodes as SentencePiece does: without the blank that a text starts with."""

        words = ("\u2581the", "re", "\n", "\u2581")

        def decode(self, ids, clean_up_tokenization_spaces):
            text = "".join(self.words[token] for token in ids).replace("\u2581", " ")
            return text.removeprefix(" ")

    assert texts_of(Dropping(), [0, 1, 2, 0]) == (" the", "re", "\n", " the")
    text = "Is the sky blue?\nYes,  it is."
    ids = tiny_tokenizer()(text)["input_ids"]
    assert "".join(texts_of(tiny_tokenizer(), ids)) == text


# --- with a picture -----------------------------------------------------------------------------


def test_image_tokens_have_credit_boxes_and_the_picture(llava):
    pairs = [dataclasses.replace(SHORT, image=picture(0, 60, 40)), LONG]
    seen, blind = explain(llava, pairs, IG)
    assert seen.modality.count("image") == 16
    assert seen.boxes.shape == (16, 4)
    assert [shown.image.size for shown in seen.pictures] == [(60, 40)]
    assert (seen.of("image")[1:] != 0).all()  # the first stands at position 0, which is held
    shares = [seen.share(kind) for kind in ("text", "image", "template")]
    assert shares[0] > 0 and shares[1] > 0 and shares[2] == 0 and sum(shares) == pytest.approx(1)
    assert blind.share("image") == 0 and blind.boxes is None and blind.pictures == ()
    other = explain(llava, [dataclasses.replace(SHORT, image=picture(1, 60, 40))], IG)[0]
    assert not torch.allclose(seen.of("image"), other.of("image"))


@pytest.mark.parametrize("name", ["llava_next", "qwen2_vl"])
def test_of_several_pictures_each_has_its_own_tokens_in_its_own_places(name):
    model, sizes = seeing(name), [(56, 28), (28, 70)]
    shown = tuple(picture(seed, *size) for seed, size in enumerate(sizes))

    def credited(*pictures):
        pair = dataclasses.replace(SHORT, image=pictures)
        return explain(model, [pair, LONG], "gradient_x_input")[0]

    both, alone = credited(*shown), [credited(one) for one in shown]
    assert [part.image.size for part in both.pictures] == sizes
    assert both.counts == [one.modality.count("image") for one in alone]
    assert sum(both.counts) == both.modality.count("image") and both.counts[0] != both.counts[1]
    for part, single in zip(both.pictures, alone, strict=True):
        assert torch.equal(part.boxes.nan_to_num(9), single.boxes.nan_to_num(9))
    scores = [part for _, part in both.placed()]
    assert torch.equal(torch.cat(scores), both.of("image"))
    # The first picture sees nothing of the second: turned round, other tokens are the first's.
    turned = credited(*shown[::-1])
    assert turned.counts == both.counts[::-1]
    assert [part.image.size for part in turned.pictures] == sizes[::-1]
    # Another second picture of the same size changes its credit, and no place.
    other = credited(shown[0], picture(7, *sizes[1]))
    assert torch.equal(other.boxes.nan_to_num(9), both.boxes.nan_to_num(9))
    assert not torch.allclose(other.placed()[1][1], scores[1])


def test_a_large_picture_is_kept_reduced_and_a_small_one_as_it_is(llava):
    large = Image.new("RGB", (3 * LONGEST, LONGEST), "red")
    for shown, kept in ((large, (LONGEST, LONGEST // 3)), (picture(0, 60, 40), (60, 40))):
        (credits,) = explain(llava, [dataclasses.replace(SHORT, image=shown)], "random")
        assert [one.image.size for one in credits.pictures] == [kept]
    assert large.size == (3 * LONGEST, LONGEST)  # the user's own is left alone


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    TINY["llama"]().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"prompt": f"What is {i}?", "chosen": "One", "rejected": "Two"} for i in range(5)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SINGLE = ("--prompt", "Where?", "--chosen", "Here", "--rejected", "No")


def test_the_command_writes_a_page_and_pictures_of_some_pairs(saved, tmp_path, capsys):
    argv = ["explain", str(saved / "model"), "--pairs", str(saved / "pairs.jsonl"), "--count", "3"]
    assert main([*argv, "--png", "out", "--batch-size", "2", "--out", "p.html"]) == 0
    said = capsys.readouterr().out
    assert "wrote p.html" in said and "wrote 3 pictures to out" in said
    assert "completeness gap of the attribution: median" in said
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 3
    assert "credits by integrated_gradients" in page
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [f"00{i}-pairs-000{i}-words.png" for i in (1, 2, 3)]
    with Image.open(tmp_path / "out" / names[0]) as words:
        assert words.width == 960


def test_the_command_takes_a_single_pair_settings_and_a_data_set(saved, tmp_path):
    argv = ["explain", str(saved / "model"), "--attributor", "{name: occlusion, token_budget: 64}"]
    assert main([*argv, *SINGLE, "--scope", "sequence", "--template", "plain"]) == 0
    page = (tmp_path / "credits.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 2
    data = "{name: starter, behavior: cheerfulness}"
    assert main([*argv, "--data", data, "--count", "2", "--out", "two.html"]) == 0
    assert (tmp_path / "two.html").read_text(encoding="utf-8").count("<section>") == 2


def test_the_command_shows_pictures(llava, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SteerableModel, "load", lambda *_, **__: llava)
    picture(0, 60, 40).save(tmp_path / "seen.png")
    argv = ["explain", "llava", *SINGLE, "--image", "seen.png", "--png", "out"]
    assert main([*argv, "--attributor", "gradient_x_input"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    page = (tmp_path / "credits.html").read_text(encoding="utf-8")
    assert page.count("<rect") == 16 and page.count("data:image/png") == 2
    assert "no picture" not in capsys.readouterr().err
    picture(1, 40, 60).save(tmp_path / "next.png")
    both = [*argv[:-2], "--image", "next.png", "--attributor", "random", "--out", "both.html"]
    assert main(both) == 0
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert page.count("<rect") == 32 and page.count("data:image/png") == 4
    # Without any the model is asked all the same, and that is said.
    assert main(["explain", "llava", *SINGLE, "--attributor", "random", "--out", "no.html"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "grains: warning: no picture is given; credits are of the words alone" in said


def fitted(saved, name, **settings):
    """Write a vector whose card says how it was fitted on some of the saved pairs."""
    model = SteerableModel.load(saved / "model")
    data = SteeringDataModule(str(saved / "pairs.jsonl"), fit=3, val=1, seed=4, template="plain")
    source = SOURCES.spec(SOURCES.build({"name": "masked", **settings}))
    card = new_card(
        model=model.name,
        fingerprint=model.fingerprint,
        data=data.describe(),
        components={"source": source, "attributor": source.pop("attributor")},
        seeds={},
    )
    vector = SteeringVector(
        directions={0: torch.eye(WIDTH)[0]},
        norms={0: 1.0},
        coefficient=1.0,
        injector=INJECTORS.build("additive"),
        card=card,
    )
    vector.save(name)
    return vector, data


def test_a_vectors_fit_is_explained_as_its_card_says(saved, tmp_path):
    settings = {"attributor": "occlusion", "scope": "sequence", "reduction": "sum"}
    vector, data = fitted(saved, "v.safetensors", **settings)
    known = fit_settings(vector)
    assert known.pop("attributor")["name"] == "occlusion"
    assert known == {
        **{"scope": "sequence", "reduction": "sum"},
        **{"baseline": "mean", "image_baseline": "mean"},
    }
    argv = ["explain", str(saved / "model"), "--vector", "v.safetensors"]
    assert main([*argv, "--out", "fit.html"]) == 0
    page = (tmp_path / "fit.html").read_text(encoding="utf-8")
    assert "credits by occlusion, of the fit of v.safetensors" in page
    shown = [f"{pair.id} ({side})" for pair in data.split.fit for side in ("chosen", "rejected")]
    assert page.count("<section>") == 6 and all(f"</span> {name}</h2>" in page for name in shown)
    by_hand = explain(SteerableModel.load(saved / "model"), data.split.fit, **fit_settings(vector))
    for one in by_hand:
        assert f"sum {float(one.scores.sum()):+.4g} nats" in page
    # An option goes over the card.
    assert main([*argv, "--count", "1", "--scope", "prompt", "--out", "one.html"]) == 0
    one = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert one.count("<section>") == 1 and "credits by occlusion" in one


def test_what_a_card_does_not_say_is_one_line(saved, tmp_path, capsys):
    vector, _ = fitted(saved, "v.safetensors")
    card = vector.card

    def refused(card, *more, model=str(saved / "model")):
        dataclasses.replace(vector, card=card).save("w.safetensors", overwrite=True)
        assert main(["explain", model, "--vector", "w.safetensors", *more]) == 2
        err = capsys.readouterr().err
        assert err.startswith("grains: error: ") and err.count("\n") == 1
        return err

    source = {"name": "gradient"}
    gradient = {**card, "components": {"source": source, "attributor": None}}
    assert "source 'gradient', which credits no tokens" in refused(gradient)
    assert "its card is a sum or a multiple of others" in refused((vector / 2).card)
    assert "its card does not say" in refused({"model": "by hand"})
    assert "on which pairs w.safetensors was fitted" in refused({**card, "data": {}})
    assert "--data and --vector" in refused(card, "--data", "starter")
    foreign = {**card["components"], "attributor": {"name": "os.path.Trap"}}
    assert "{'name': 'os.path.Trap'}; wanted a registered name" in refused(
        {**card, "components": foreign}
    )
    listed = {**card["data"], "dataset": {**card["data"]["dataset"], "name": "list"}}
    assert "no name leads back" in refused({**card, "data": listed})
    other = {**card, "fingerprint": {**card["fingerprint"], "weights": "ab" * 32}}
    assert "wanted the same weights" in refused(other)
    assert not list(tmp_path.glob("*.html"))


def test_of_a_file_no_more_pictures_are_opened_than_are_asked_for(saved, tmp_path):
    rows = [json.loads(line) for line in (saved / "pairs.jsonl").read_text().splitlines()]
    rows[2]["image"] = "no.png"
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["explain", str(saved / "model"), "--pairs", "p.jsonl", "--attributor", "random"]
    assert main([*argv, "--count", "2"]) == 0
    assert main([*argv, "--count", "3", "--overwrite"]) == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "no pairs"),
        ((*SINGLE, "--image", "none.png"), "--image: the image 'none.png' does not exist; wanted"),
        ((*SINGLE, "--image", "full"), "'full' is a folder; wanted a picture file"),
        ((*SINGLE, "--image", "good.png", "--image", "none.png"), "'none.png' does not exist"),
        (("--vector", "no.safetensors"), "no.safetensors does not exist"),
        (("--vector", "no.safetensors", *SINGLE), "--vector and a single pair"),
        (("--data", "starter", "--pairs", "p.jsonl"), "--data and --pairs"),
        (("--prompt", "a", "--chosen", "b"), "--rejected is lacking"),
        (("--image", "a.png"), "--prompt, --chosen, --rejected is lacking"),
        (("--data", "starter", *SINGLE), "a single pair"),
        ((*SINGLE, "--count", "0"), "--count is 0"),
        ((*SINGLE, "--batch-size", "0"), "--batch-size is 0"),
        ((*SINGLE, "--attributor", "oclusion"), "did you mean 'occlusion'"),
        ((*SINGLE, "--scope", "promt"), "did you mean 'prompt'"),
        ((*SINGLE, "--baseline", "maen"), "did you mean 'mean'"),
        ((*SINGLE, "--reduction", "men"), "did you mean 'mean'"),
        ((*SINGLE, "--out", "full/there.html"), "full/there.html exists"),
        ((*SINGLE, "--png", "full"), "full holds files"),
        ((*SINGLE, "--png", "full/there.html"), "is a file"),
    ],
)
def test_mistakes_are_one_line_before_any_model_is_read(argv, words, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "there.html").write_text("precious")
    picture(0, 60, 40).save(tmp_path / "good.png")
    assert main(["explain", "/no/such/model", *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("grains: error: ") and err.count("\n") == 1
    assert words in err
    assert (tmp_path / "full" / "there.html").read_text() == "precious"


def test_overwrite_replaces(saved, tmp_path):
    argv = ["explain", str(saved / "model"), *SINGLE, "--attributor", "random", "--png", "out"]
    assert main(argv) == 0
    assert main(argv) == 2
    assert main([*argv, "--overwrite"]) == 0
