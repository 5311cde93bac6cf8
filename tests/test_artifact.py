import dataclasses
import json
import math
import os
import re
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from grains import storage
from grains.artifact import SteeringVector
from grains.card import new_card, plain
from grains.directions.base import Certificate
from grains.errors import GrainsError
from grains.injectors import INJECTORS

WIDTH, BLOCKS = 6, 5
FINGERPRINT = {"model_type": "llama", "n_blocks": BLOCKS, "width": WIDTH, "weights": "ab" * 32}
SUMMABLE = ["additive", "normalized"]


def unit(seed):
    rows = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (rows / rows.norm()).float()


def card(**changes):
    facts = {
        "model": "tiny",
        "fingerprint": FINGERPRINT,
        "data": {"id": "starter", "split": {"fit": ["a", "b"]}},
        "components": {"attributor": {"name": "integrated_gradients", "steps": 16}},
        "seeds": {"split": 0},
        "certificates": {
            1: Certificate(explained=0.5, split_half=0.9, to_mean_difference=0.8, stable=True)
        },
        "validation": [{"coefficient": 0.1, "margin": 0.25, "gap": math.nan}],
    }
    return new_card(**{**facts, **changes})


CARD = card()  # made once, since a card says when it was made


def vector(layers=(1, 3), seed=0, **changes):
    parts = {
        "directions": {layer: unit(seed + layer) for layer in layers},
        "norms": {layer: 10.0 + layer for layer in layers},
        "coefficient": 0.1,
        "injector": INJECTORS.build("additive"),
        "card": CARD,
    }
    return SteeringVector(**{**parts, **changes})


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Identity() for _ in range(BLOCKS))

    def forward(self, inputs_embeds):
        for block in self.blocks:
            inputs_embeds = block(inputs_embeds)
        return inputs_embeds


class Tiny:
    """Blocks that pass their input on, so that what steering adds is all there is to see."""

    def __init__(self, **changes):
        self.decoder = Decoder()
        self.blocks = self.decoder.blocks
        self.lm = SimpleNamespace(generate=None)
        self.fingerprint = {**FINGERPRINT, **changes}

    def run(self, hidden):
        return self.decoder(inputs_embeds=hidden)


def steered(steering, hidden, **options):
    model = Tiny()
    with steering.applied_to(model, **options):
        return model.run(hidden)


@pytest.fixture
def hidden():
    return 10 * torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(9))


# --- the value ------------------------------------------------------------------------------------


def test_it_keeps_copies():
    directions, facts = {1: unit(1)}, card()
    made = vector((1,), directions=directions, card=facts)
    directions[1].zero_()
    facts["model"] = "other"
    assert made.directions[1].norm().item() == pytest.approx(1)
    assert made.card["model"] == "tiny"


def test_equal_means_all_parts():
    assert vector() == vector()
    assert vector() != vector(seed=1)
    assert vector() != vector((1,))
    assert vector() != dataclasses.replace(vector(), coefficient=0.2)
    assert vector() != dataclasses.replace(vector(), positions="last")
    assert vector() != dataclasses.replace(vector(), site="vision")
    assert vector() != dataclasses.replace(vector(), card={})
    assert vector() != "vector"


def test_repr_is_one_readable_line():
    made = vector((1, 2, 3, 0))
    assert repr(made) == (
        "SteeringVector(layers 0-3 of 'tiny', width 6, Additive() x 0.1 at all positions)"
    )
    assert "layers 0,2-3,9 of" in repr(vector((0, 2, 3, 9)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": {}}, "there are no directions"),
        ({"directions": {1: 2 * unit(1), 3: unit(3)}}, "layer 1 has length 2; wanted a unit"),
        ({"directions": {1: unit(1) * math.nan, 3: unit(3)}}, "layer 1 is not finite"),
        ({"directions": {1: unit(1)[None], 3: unit(3)}}, r"layer 1 is torch.float32 \[1, 6\]"),
        ({"directions": {1: torch.ones(1).long(), 3: unit(3)}}, r"layer 1 is torch.int64 \[1\]"),
        ({"directions": {1: torch.ones(1), 3: unit(3)}}, r"widths \[1, 6\]"),
        ({"directions": {-1: unit(1)}}, "layer -1; wanted a number from 0 on"),
        ({"norms": {1: 1.0}}, "layer 3 has a direction but no norm"),
        ({"norms": {1: 1.0, 2: 1.0, 3: 1.0}}, "layer 2 has a norm but no direction"),
        ({"norms": {1: 0.0, 3: 1.0}}, "the norm of layer 1 is 0.0; wanted more than 0"),
        ({"weights": {2: 1.0}}, "layer 2 has a weight but no direction"),
        ({"weights": {1: math.inf}}, "the weight of layer 1 is inf"),
        ({"coefficient": math.nan}, "the coefficient is nan"),
        ({"coefficient": "0.1"}, "the coefficient is '0.1'; wanted a number"),
        ({"coefficient": 10**400}, "the coefficient is inf"),
        ({"positions": "lats"}, "did you mean 'last'"),
        ({"injector": "additive"}, "'additive'; wanted an Injector"),
        ({"card": {"seeds": {"split": object()}}}, "card.seeds.split is a object"),
        ({"site": "encoder"}, "the site is 'encoder'; did you mean 'decoder'"),
        ({"site": "vision", "positions": "last"}, "'last' in the vision tower.*wanted 'all'"),
        ({"card": {"fingerprint": "abc"}}, "its fingerprint is none"),
        ({"card": {"fingerprint": {"vision": [24]}}}, "its fingerprint is none"),
        ({"card": {"parents": [{"factor": 1}]}}, "parents are malformed"),
    ],
)
def test_unsound_parts_are_refused(changes, message):
    with pytest.raises(GrainsError, match=message):
        vector(**changes)


def test_a_card_is_what_json_gives_back():
    facts = plain({1: (True, 2, 0.5, math.inf), "p": Path("a"), "t": torch.tensor([1, 2])})
    assert facts == {"1": [True, 2, 0.5, None], "p": "a", "t": [1, 2]}
    assert json.loads(json.dumps(CARD, allow_nan=False)) == CARD
    assert CARD["certificates"]["1"]["stable"] is True
    assert CARD["validation"] == [{"coefficient": 0.1, "margin": 0.25, "gap": None}]
    assert set(CARD["versions"]) == {"python", "grains", "torch", "transformers"}


# --- on a model -----------------------------------------------------------------------------------


def test_each_layer_is_pushed_by_its_own_strength(hidden):
    made = vector(weights={3: 0.5})
    push = 0.1 * 11.0 * unit(1) + 0.1 * 0.5 * 13.0 * unit(3)
    torch.testing.assert_close(steered(made, hidden), hidden + push)
    torch.testing.assert_close(steered(made, hidden, coefficient=-0.2), hidden - 2 * push)


def test_positions_are_passed_on(hidden):
    changed = steered(vector(), hidden, positions="last") != hidden
    assert changed[:, -1].any() and not changed[:, :-1].any()
    made = dataclasses.replace(vector(), positions="last")
    assert torch.equal(steered(made, hidden), steered(vector(), hidden, positions="last"))


def test_pictures_at_the_last_block_alone_are_refused_since_nothing_reads_them():
    model = Tiny()
    model.image_token_id = 0
    last = vector((4,))
    said = "layers is '4' and positions is 'image': what the last block says of a picture reaches"
    with pytest.raises(GrainsError, match=f"{said} no answer; wanted a layer of 0 to 3"):
        last.applied_to(model, positions="image")
    with pytest.raises(GrainsError, match=said):
        vector((1, 4), weights={1: 0.0}, positions="image").applied_to(model)
    # The opposite: other positions, another layer as well, or no strength at all.
    last.applied_to(model)
    last.applied_to(model, 0.0, positions="image")
    vector((3, 4), positions="image").applied_to(model)
    # Heads are counted through all blocks; two of ten are the last block's.
    heads = {"heads": {"n_blocks": 2 * BLOCKS, "width": WIDTH}}
    model.fingerprint = {**FINGERPRINT, **heads}
    with pytest.raises(GrainsError, match=r"layers is '8' .* wanted a layer of 0 to 7"):
        vector((8,), site="heads", positions="image", card={}).applied_to(model, strict=False)


def test_strength_zero_leaves_no_hook_and_the_same_bits(hidden):
    model = Tiny()
    with vector(weights={1: 0.0}).applied_to(model):
        assert [len(block._forward_hooks) for block in model.blocks] == [0, 0, 0, 1, 0]
    with vector().applied_to(model, coefficient=0.0):
        assert not any(block._forward_hooks for block in model.blocks)
        assert not model.decoder._forward_pre_hooks
        assert model.run(hidden) is hidden


def test_the_model_is_itself_again_after_an_exception(hidden):
    model = Tiny()
    with pytest.raises(ZeroDivisionError), vector().applied_to(model):
        assert not torch.equal(model.run(hidden), hidden)
        raise ZeroDivisionError
    assert torch.equal(model.run(hidden), hidden)


def test_the_direction_takes_the_dtype_of_what_is_steered(hidden):
    assert steered(vector(), hidden.bfloat16()).dtype == torch.bfloat16
    assert steered(vector(), hidden.double()).dtype == torch.float64


def test_a_direction_placed_in_inference_mode_serves_where_gradients_are_wanted(hidden):
    made = dataclasses.replace(vector(), injector=INJECTORS.build("projection"))
    model = Tiny()
    with made.applied_to(model):
        with torch.inference_mode():
            model.run(hidden.double())
        wanted = hidden.double().requires_grad_()
        model.run(wanted).sum().backward()
    assert wanted.grad is not None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, r"\('tiny', llama, 5 blocks, width 6, .* width 8, .*wanted equal widths"),
        ({"n_blocks": 4}, "5 blocks.* is .*4 blocks.*wanted as many blocks"),
    ],
)
def test_another_shape_is_always_refused(changes, message, strict):
    with pytest.raises(GrainsError, match=message):
        vector().applied_to(Tiny(**changes), strict=strict)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, "for .*llama.* is .*qwen2.*wanted the same family, or strict"),
        ({"weights": "cd" * 32}, "abababab.* is .*cdcdcdcd.*wanted the same weights, or strict"),
    ],
)
def test_another_model_of_that_shape_is_refused_unless_forced(changes, message, hidden):
    model = Tiny(**changes)
    with pytest.raises(GrainsError, match=message):
        vector().applied_to(model)
    with vector().applied_to(model, strict=False):
        assert not torch.equal(model.run(hidden), hidden)


def test_a_vector_that_does_not_say_its_model():
    made = vector(card={})
    with pytest.raises(GrainsError, match="an unnamed model, width 6"):
        made.applied_to(Tiny())
    made.applied_to(Tiny(), strict=False)
    with pytest.raises(GrainsError, match="steers layer 7"):
        vector((7,), card={}).applied_to(Tiny(), strict=False)


def test_bad_overrides_are_refused():
    with pytest.raises(GrainsError, match="the coefficient is nan"):
        vector().applied_to(Tiny(), math.nan)
    with pytest.raises(GrainsError, match="did you mean 'prompt'"):
        vector().applied_to(Tiny(), positions="promt")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INJECTORS.names())
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, name):
    made = vector(
        injector=INJECTORS.build(name), weights={1: 1 / 3}, coefficient=0.1 + 0.2, positions="last"
    )
    path = tmp_path / "new" / "v.safetensors"
    made.save(path)
    assert SteeringVector.load(path) == made
    again = path.with_name("again.safetensors")
    SteeringVector.load(path).save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_record_makes_the_vector_again():
    tensors, record = vector(weights={1: 0.5}).to_record()
    with pytest.raises(
        GrainsError, match="the site is 'nowhere'; there are: decoder, heads, vision"
    ):
        SteeringVector.from_record({**record, "site": "nowhere"}, tensors)
    assert SteeringVector.from_record(json.loads(json.dumps(record)), tensors) == vector(
        weights={1: 0.5}
    )
    with pytest.raises(GrainsError, match=r"missing or malformed, KeyError\('norms'\)"):
        SteeringVector.from_record({"format_version": 1}, tensors)


def test_what_is_loaded_does_not_hang_on_the_file(tmp_path):
    path = tmp_path / "v.safetensors"
    vector().save(path)
    loaded, (_, tensors) = SteeringVector.load(path), storage.load_record(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert loaded == vector()
    assert torch.equal(tensors["direction.1"], unit(1))


def test_an_existing_file_is_kept_unless_told(tmp_path):
    path = tmp_path / "v.safetensors"
    vector().save(path)
    before = path.read_bytes()
    with pytest.raises(GrainsError, match="exists; wanted another name, or overwrite"):
        vector(seed=1).save(path)
    assert path.read_bytes() == before
    vector(seed=1).save(path, overwrite=True)
    assert SteeringVector.load(path) == vector(seed=1)
    with pytest.raises(GrainsError, match="is a folder"):
        vector().save(tmp_path, overwrite=True)


@pytest.mark.parametrize("broken", ["replace", "fsync"])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch, broken, failure):
    path = tmp_path / "v.safetensors"
    vector().save(path)
    before = path.read_bytes()

    def fail(*_):
        raise failure

    monkeypatch.setattr(os, broken, fail)
    expected = GrainsError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        vector(seed=1).save(path, overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GrainsError, match=r"file.v.safetensors cannot be written"):
        vector().save(tmp_path / "file" / "v.safetensors")


def test_an_injector_without_a_name_is_not_saved(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Unnamed(type(INJECTORS.build("additive"))):
        pass

    with pytest.raises(GrainsError, match=r"Unnamed' is not registered; "):
        vector(injector=Unnamed()).save(tmp_path / "v.safetensors")
    assert not os.listdir(tmp_path)


def written(tmp_path, tensors=None, text=None, metadata=None, **changes):
    """Write a file that is like a vector's but for the changes; None leaves a part out."""
    made = vector()
    made.save(tmp_path / "whole.safetensors")
    record, own = storage.load_record(tmp_path / "whole.safetensors")
    record = {key: value for key, value in {**record, **changes}.items() if value is not None}
    tensors = own if tensors is None else tensors
    metadata = metadata or {storage.KEY: json.dumps(record) if text is None else text}
    path = tmp_path / "v.safetensors"
    path.write_bytes(save(tensors, metadata))
    return path


def refused(path):
    start = time.perf_counter()
    with pytest.raises(GrainsError) as caught:
        SteeringVector.load(path)
    assert time.perf_counter() - start < 1
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_the_written_file_is_loaded_when_nothing_is_changed(tmp_path):
    SteeringVector.load(written(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"format": "pt"}}, "is a safetensors file of something else"),
        ({"text": "{"}, "does not read"),
        ({"text": "[]"}, "holds a list"),
        ({"text": "[" * 100_000}, "does not read"),
        ({"text": '{"format_version": 1, "card": ' + "[" * 900 + "]" * 900 + "}"}, "no .* vector"),
        ({"format_version": 2}, "format is 2, grains .* reads 1; wanted that or a newer grains"),
        ({"format_version": None}, "the format is None, "),
        ({"format_version": True}, "the format is True, "),
        ({"card": None}, "KeyError.'card'"),
        ({"card": []}, "the card is not a mapping"),
        ({"norms": [1]}, "no sound vector: a part is missing or malformed"),
        ({"norms": {"x": 1.0}}, "no sound vector: a part is missing or malformed"),
        ({"norms": {"1": "11", "3": 13.0}}, "the norm of layer 1 is '11'"),
        ({"coefficient": math.inf}, "the coefficient is inf"),
        ({"positions": ["all"]}, "the positions are"),
        ({"injector": {"name": "aditive"}}, "did you mean 'additive'"),
        ({"injector": {"name": "additive", "gain": 2}}, "has no setting 'gain'"),
        ({"injector": {"name": "os.system"}}, "'os.system' is not registered"),
        ({"injector": {"name": "additive", "class_path": "os.system"}}, "has a class_path"),
        ({"injector": "additive"}, "wanted a mapping with 'name'"),
        ({"tensors": {}}, "there are no directions"),
        ({"tensors": {"direction.1": unit(1).half()}}, "'direction.1' is F16; wanted F32"),
        ({"tensors": {"direction.01": unit(1)}}, "holds a tensor 'direction.01'"),
        ({"tensors": {"weight": unit(1)}}, "holds a tensor 'weight'"),
        ({"tensors": {"direction.1": unit(1), "direction.3": unit(3) * math.nan}}, "not finite"),
        ({"tensors": {"direction.1": unit(1), "direction.3": unit(3) * math.inf}}, "not finite"),
        ({"tensors": {"direction.1": unit(1), "direction.3": torch.zeros(6)}}, "has length 0"),
        ({"tensors": {"direction.1": unit(1), "direction.3": unit(3)[:, None]}}, r"\[6, 1\]"),
        ({"tensors": {"direction.1": torch.ones(1), "direction.3": unit(3)}}, r"widths \[1, 6\]"),
        ({"tensors": {"direction.1": unit(1)}}, "layer 3 has a norm but no direction"),
    ],
)
def test_a_file_that_is_no_vector_is_refused(tmp_path, changes, message):
    assert re.search(message, refused(written(tmp_path, **changes)))


def header(shape, end):
    claim = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
    text = json.dumps({"__metadata__": {storage.KEY: "{}"}, "direction.0": claim}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short at 0 bytes"),
        (b"short", "cut short at 5 bytes"),
        (b"PK\x03\x04" + b"\0" * 60, "cut short at 64 bytes, or not safetensors"),
        (struct.pack("<Q", 2**62) + b"{}", "cut short at 10 bytes"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "cut short at 10 bytes"),
        (header([10**12], 4 * 10**12), "does not read as safetensors"),
        (header([2**63, 2**63], 0), "does not read as safetensors"),
    ],
    ids=["empty", "five bytes", "zip", "huge header", "overflow", "terabytes", "overflowing shape"],
)
def test_bytes_that_are_no_safetensors_are_refused(tmp_path, data, message):
    path = tmp_path / "v.safetensors"
    path.write_bytes(data)
    assert message in refused(path)


def test_a_place_without_a_file_is_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.safetensors")
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("start", "size", "message"),
    [
        (header([2**28], 2**30), 2**30, "bytes, a vector at most 268435456"),
        (struct.pack("<Q", 2**24 + 1), 2**25, "has a header of 16777217 bytes"),
    ],
    ids=["tensors", "header"],
)
def test_a_file_too_large_for_a_vector_is_not_read(tmp_path, start, size, message):
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    assert message in refused(path)


def test_a_pickle_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save(Trap(), tmp_path / "v.safetensors")
    refused(tmp_path / "v.safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "v.safetensors"
    vector().save(path)
    return path.read_bytes()


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_a_sound_vector(tmp_path, whole, data):
    path = tmp_path / "v.safetensors"
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["cut", "change", "insert"]))
        if kind == "cut":
            del content[place:]
        elif kind == "change":
            content[place] = data.draw(st.integers(0, 255))
        else:
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        if not content:
            break
    path.write_bytes(content)
    try:
        loaded = SteeringVector.load(path)
    except GrainsError as error:
        assert "\n" not in str(error)
    else:
        assert all(torch.isfinite(tensor).all() for tensor in loaded.directions.values())


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path, content):
    path = tmp_path / "v.safetensors"
    path.write_bytes(content)
    with pytest.raises(GrainsError):
        SteeringVector.load(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, whole, share):
    path = tmp_path / "v.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path)


# --- arithmetic -----------------------------------------------------------------------------------


def same_effect(one, other, hidden):
    torch.testing.assert_close(steered(one, hidden), steered(other, hidden))


@pytest.mark.parametrize("name", SUMMABLE)
def test_laws_of_sums(name, hidden):
    injector = INJECTORS.build(name)
    a = vector(injector=injector)
    b = vector((3, 4), 10, injector=injector, coefficient=-0.3)
    c = vector((1,), 20, injector=injector, coefficient=0.2)
    same_effect(a + a, 2 * a, hidden)
    same_effect(a + b, b + a, hidden)
    same_effect((a + b) + c, a + (b + c), hidden)
    same_effect(3 * (a + b), 3 * a + 3 * b, hidden)
    same_effect(a + b - b, a, hidden)
    assert not torch.allclose(steered(a + b, hidden), steered(a, hidden))
    assert (a + b).layers == [1, 3, 4]


def test_a_sum_of_additive_vectors_is_one_after_the_other(hidden):
    a, b = vector(), vector((3, 4), 10, coefficient=-0.3, weights={3: 0.5})
    torch.testing.assert_close(steered(a + b, hidden), steered(b, steered(a, hidden)))
    mixed = dataclasses.replace(b, norms={3: 20.0, 4: 1.0})
    torch.testing.assert_close(steered(a + mixed, hidden), steered(mixed, steered(a, hidden)))


def test_the_strength_of_a_sum_keeps_its_unit():
    a = vector()
    doubled = a + a
    assert doubled.coefficient == pytest.approx(0.2)
    assert doubled.weights == pytest.approx({1: 1.0, 3: 1.0})
    assert doubled.norms == a.norms
    mixed = a + vector((4,), coefficient=-0.3)
    assert mixed.strengths() == pytest.approx({1: 0.1, 3: 0.1, 4: 0.3})
    assert max(mixed.weights.values()) == 1.0


def test_a_minus_a_is_the_identity_at_any_coefficient(hidden):
    nothing = vector() - vector()
    assert steered(nothing, hidden) is hidden
    assert steered(nothing, hidden, coefficient=5.0) is hidden
    partly = vector((1, 3)) - vector((3,))
    assert partly.strengths()[3] == 0 and partly.strengths()[1] == pytest.approx(0.1)


@pytest.mark.parametrize("name", INJECTORS.names())
def test_a_factor_scales_the_coefficient_of_any_injector(name, hidden):
    a = vector(injector=INJECTORS.build(name))
    assert (0.5 * a).coefficient == 0.05
    assert 0.5 * a == dataclasses.replace(a * 0.5, card=(0.5 * a).card)
    assert torch.equal(steered(-a, hidden), steered(a, hidden, coefficient=-0.1))
    assert steered(0 * a, hidden) is hidden
    assert -1 * -a == a
    assert 0.5 * (2 * a) == a
    assert -a != a


def test_dividing_is_multiplying_by_the_inverse():
    a = vector()
    assert (a / 2).coefficient == 0.05 and a / 1 == a
    assert (a / 2).card["parents"] == (0.5 * a).card["parents"]
    assert (a / 4) != (a / 2)
    with pytest.raises(GrainsError, match="divided by 0; wanted another number"):
        a / 0
    with pytest.raises(TypeError):
        2 / a


@pytest.mark.parametrize("name", [n for n in INJECTORS.names() if n not in SUMMABLE])
def test_injectors_that_do_not_displace_have_no_sum(name):
    a = vector(injector=INJECTORS.build(name))
    with pytest.raises(GrainsError, match=f"{name}' have no sum, .*wanted additive or normalized"):
        a + a
    with pytest.raises(GrainsError, match="no sum"):
        a - a


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"injector": INJECTORS.build("normalized")}, r"injector is Additive\(\) and Normalized"),
        ({"positions": "last"}, "positions is 'all' and 'last'"),
        ({"card": card(fingerprint={**FINGERPRINT, "weights": "cd" * 32})}, "of two models"),
        ({"card": {}}, "of two models"),
        ({"directions": {1: torch.ones(1)}, "norms": {1: 1.0}}, "width is 6 and 1"),
    ],
)
def test_vectors_of_two_kinds_have_no_sum(changes, message):
    with pytest.raises(GrainsError, match=message):
        vector() + vector(**changes)


def test_other_things_are_no_operands():
    for wrong in (lambda: vector() + 1, lambda: vector() - 1, lambda: vector() * vector()):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(GrainsError, match="the coefficient is inf"):
        math.inf * vector()


def test_the_card_of_a_result_names_the_vectors_that_were_fitted(tmp_path):
    a, b = vector(), vector(seed=1, coefficient=0.3, card=card(model="tiny", seeds={"split": 1}))
    made = 0.5 * (a - 2 * b)
    assert [(p["factor"], p["coefficient"]) for p in made.card["parents"]] == [
        (0.5, 0.1),
        (-1, 0.3),
    ]
    assert [p["card"] for p in made.card["parents"]] == [a.card, b.card]
    assert made.card["fingerprint"] == FINGERPRINT
    made.save(tmp_path / "v.safetensors")
    assert SteeringVector.load(tmp_path / "v.safetensors") == made
