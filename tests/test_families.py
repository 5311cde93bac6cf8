"""Every row of the family table against a tiny model of it; what is not a row is never guessed."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from grains.errors import GrainsError
from grains.models.families import FAMILIES, family_of, find_blocks
from tests.tiny import LAYERS, TINY, WIDTH, builder
from tests.tiny_vision import TINY_VISION

IDS = torch.tensor([[5, 40, 12, 33, 8, 91, 17, 60, 22, 73], [9, 7, 55, 21, 30, 4, 18, 77, 80, 6]])
STABLELM = builder(  # a type without a row
    "stablelm",
    hidden_size=WIDTH,
    intermediate_size=48,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=4,
)


def block_outputs(model, blocks):
    """Run the model with a hook on each block; return these outputs and `hidden_states`."""
    seen = {}

    def keep(index):
        def hook(module, inputs, output):
            seen[index] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [block.register_forward_hook(keep(i)) for i, block in enumerate(blocks)]
    with torch.no_grad():
        states = model(IDS, output_hidden_states=True).hidden_states
    for handle in handles:
        handle.remove()
    return [seen[index] for index in range(len(blocks))], states


def test_every_row_has_a_tiny_model_and_every_tiny_model_a_row():
    built = {build().config.model_type for build in TINY.values()}
    assert built == {kind for row in FAMILIES if not row.vision for kind in row.model_types}
    assert {family.name for family in FAMILIES if not family.vision} <= set(TINY)
    assert set(TINY_VISION) == {kind for row in FAMILIES if row.vision for kind in row.model_types}


def test_no_model_type_is_claimed_twice():
    kinds = [kind for family in FAMILIES for kind in family.model_types]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("name", TINY)
def test_the_row_leads_to_the_blocks(name):
    model = TINY[name]()
    path, blocks = find_blocks(model)
    family = family_of(model.config.model_type)
    assert family is not None and path == family.blocks
    assert blocks is model.get_submodule(path)
    assert len(blocks) == LAYERS


@pytest.mark.parametrize("name", TINY)
def test_block_outputs_are_the_hidden_states_except_for_the_last(name):
    model = TINY[name]()
    _, blocks = find_blocks(model)
    outputs, states = block_outputs(model, blocks)
    assert all(output.shape == (*IDS.shape, WIDTH) for output in outputs)
    for index in range(LAYERS - 1):
        assert torch.equal(outputs[index], states[index + 1]), f"block {index}"
    # The opposite: transformers shows the last block's output after the final norm (or projection).
    last = states[-1]
    assert last.shape != outputs[-1].shape or not torch.allclose(outputs[-1], last, atol=1e-2)


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_models_are_seeded_causal_and_run_in_double_precision(name):
    model, again = TINY[name](), TINY[name]()
    changed = IDS.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        logits = model(IDS).logits
        assert torch.equal(logits, again(IDS).logits)
        assert torch.allclose(logits[:, :-1], model(changed).logits[:, :-1], atol=1e-5)
        assert not torch.allclose(logits[:, -1], model(changed).logits[:, -1], atol=1e-3)
        assert model.double()(IDS).logits.dtype == torch.float64
        assert torch.allclose(model(IDS).logits.float(), logits, atol=1e-4)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral", "cohere2"])
def test_the_sliding_windows_of_the_tiny_models_are_real(name):
    model, wide = TINY[name](), TINY[name]()
    wide.config.sliding_window = 128
    for module in wide.modules():
        if getattr(module, "sliding_window", None):
            module.sliding_window = 128
    with torch.no_grad():
        assert not torch.allclose(model(IDS).logits[:, -1], wide(IDS).logits[:, -1], atol=1e-3)


def test_embeddings_narrower_than_the_stream_are_allowed_where_the_config_says_so():
    model = TINY["opt_projected"]()
    assert model.get_input_embeddings().weight.shape[-1] == WIDTH // 2
    assert len(find_blocks(model)[1]) == LAYERS


def test_a_decoy_of_the_right_length_does_not_mislead_the_row():
    model = TINY["llama"]()
    blocks = model.model.layers
    model.add_module("vision", nn.ModuleList(nn.Identity() for _ in range(LAYERS)))
    assert find_blocks(model)[1] is blocks


def test_an_unknown_family_is_an_error_that_shows_the_way_out():
    model = STABLELM()
    with pytest.raises(GrainsError, match="no model family has the type 'stablelm'") as caught:
        find_blocks(model)
    message = str(caught.value)
    assert 'blocks="path.to.layers"' in message
    assert f"lists of {LAYERS} modules here: 'model.layers'" in message
    assert "llama" in message and "\n" not in message


def test_an_unknown_family_works_by_path():
    model = STABLELM()
    path, blocks = find_blocks(model, "model.layers")
    outputs, states = block_outputs(model, blocks)
    assert path == "model.layers"
    assert torch.equal(outputs[0], states[1])


def test_a_misspelt_type_is_told_the_nearest():
    model = TINY["llama"]()
    model.config.model_type = "lama"
    with pytest.raises(GrainsError, match="did you mean 'llama'"):
        find_blocks(model)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("model.nowhere", "has nothing at blocks='model.nowhere'; wanted a ModuleList of its 3"),
        ("model.norm", "has a LlamaRMSNorm at blocks='model.norm'"),
        ("model", "has a LlamaModel at blocks='model'"),
        ("model.layers.0", "has a LlamaDecoderLayer at blocks='model.layers.0'"),
        ("side", "has 2 modules at blocks='side'; wanted the 3 decoder blocks"),
    ],
)
def test_a_wrong_path_is_told_what_is_there_and_what_is_wanted(path, found):
    model = TINY["llama"]()
    model.add_module("side", nn.ModuleList([nn.Identity(), nn.Identity()]))
    with pytest.raises(GrainsError, match=re.escape(found)) as caught:
        find_blocks(model, path)
    assert "'model.layers'" in str(caught.value)


def test_a_row_that_contradicts_the_config_is_refused():
    model = TINY["llama"]()
    del model.model.layers[-1]
    with pytest.raises(GrainsError, match=r"has 2 modules .*wanted the 3 decoder blocks"):
        find_blocks(model)


def test_embeddings_of_another_width_than_the_config_says_are_refused():
    model = TINY["llama"]()
    model.set_input_embeddings(nn.Embedding(384, WIDTH + 8))
    with pytest.raises(GrainsError, match="embeddings of width 40; wanted the 32"):
        find_blocks(model)
