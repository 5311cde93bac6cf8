"""Layers as users write them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grains.errors import GrainsError
from grains.layers import parse_layers, show_layers


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("8-10", (8, 9, 10)),
        ("3,5,8-10", (3, 5, 8, 9, 10)),
        (" 3 , 5 - 6 ", (3, 5, 6)),
        ("7", (7,)),
        (7, (7,)),
        (0, (0,)),
        ([9, 2, 2], (2, 9)),
        ((29,), (29,)),
        (range(3, 5), (3, 4)),
        (np.array([3, 4]), (3, 4)),
        (np.int64(3), (3,)),
        ("5,5-6", (5, 6)),
        ("all", tuple(range(30))),
        ("middle", tuple(range(8, 20))),
    ],
)
def test_what_users_may_write(spec, layers):
    assert parse_layers(spec, 30) == layers


@pytest.mark.parametrize("n_blocks", range(1, 13))
def test_the_middle_is_never_empty_and_inside(n_blocks):
    layers = parse_layers("middle", n_blocks)
    assert layers and set(layers) <= set(range(n_blocks))


@pytest.mark.parametrize("spec", ["", "8-", "a", "8..9", "-3", "3,,4", "middel", "1.5", "8-19-20"])
def test_what_is_no_list_of_layers_is_refused(spec):
    with pytest.raises(GrainsError, match="wanted such as '8-19', '3,5,8-10', 'middle' or 'all'"):
        parse_layers(spec, 30)


@pytest.mark.parametrize("spec", [1.5, None, True, [["0"]], [1.0], [1, True], ["0"], {"a": 1}])
def test_what_is_no_whole_number_is_refused(spec):
    with pytest.raises(GrainsError, match="wanted such as '8-19', '3,5,8-10'") as caught:
        parse_layers(spec, 30)
    assert str(caught.value).startswith(f"layers is {spec!r}; ")


@pytest.mark.parametrize(("spec", "first"), [(30, 30), ("8-30", 30), ([-1], -1), ("40-41", 40)])
def test_a_layer_that_the_model_lacks_is_named(spec, first):
    with pytest.raises(GrainsError, match=f"has no layer {first}; wanted 0 to 29"):
        parse_layers(spec, 30)


@pytest.mark.parametrize("spec", [[], (), "9-8"])
def test_no_layer_at_all_is_refused(spec):
    with pytest.raises(GrainsError, match="which names none; wanted one or more"):
        parse_layers(spec, 30)


@given(st.sets(st.integers(0, 29), min_size=1))
def test_what_is_shown_can_be_read_again(layers):
    shown = show_layers(sorted(layers))
    assert parse_layers(shown, 30) == tuple(sorted(layers))
    assert shown == show_layers(sorted(layers, reverse=True))


def test_neighbours_are_shown_as_one_run():
    assert show_layers([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert show_layers([4]) == "4"
