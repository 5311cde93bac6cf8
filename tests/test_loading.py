"""What a user may name, what comes of it, and one line for everything that goes wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, BertConfig, BertLMHeadModel, T5Config
from transformers.utils import logging

from grains.errors import GrainsError
from grains.models import loading
from grains.models.families import find_blocks
from grains.models.loading import load_pretrained
from grains.models.reading import reading
from tests.tiny import LAYERS, TINY, tiny_tokenizer, write_tiny_gguf

IDS = torch.tensor([[5, 40, 12, 33, 8, 91, 17, 60, 22, 73]])


def logits(model):
    with torch.no_grad():
        return model(IDS.to(model.device)).logits


def one_line(action, *arguments, match: str, **options) -> str:
    with pytest.raises(GrainsError, match=match) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def no_hub(monkeypatch):
    """Let no request leave: neither ours nor Hugging Face's."""
    monkeypatch.setattr(loading, "hub_status", lambda hub_id: None)


@pytest.fixture
def folder(tmp_path):
    """A saved tiny Llama."""
    path = tmp_path / "tiny-llama"
    TINY["llama"]().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


# --- (model, tokenizer) --------------------------------------------------------------------------


def test_a_given_model_is_taken_as_it_is_and_frozen():
    model, tokenizer = TINY["qwen2"](), tiny_tokenizer()
    model.train()
    loaded = load_pretrained((model, tokenizer))
    assert loaded.model is model and loaded.tokenizer is tokenizer
    assert loaded.name == "Qwen2ForCausalLM"
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.dtype == torch.float32


def test_a_given_model_is_cast_only_if_asked():
    assert load_pretrained((TINY["gpt2"](), tiny_tokenizer()), dtype="auto")[0].dtype == (
        torch.float32
    )
    cast = load_pretrained((TINY["gpt2"](), tiny_tokenizer()), dtype="float64", device="cpu")
    assert cast.model.dtype == torch.float64


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ((1, 2), r"given as \(int, int\); wanted \(model, tokenizer\)"),
        ((torch.nn.Linear(1, 1), 2), r"given as \(Linear, int\)"),
        (7, "given as a int; wanted a name, a folder, a GGUF file"),
    ],
)
def test_what_is_no_model_is_refused(source, match):
    one_line(load_pretrained, source, match=match)


def test_options_for_a_loaded_model_are_refused():
    given = (TINY["gpt2"](), tiny_tokenizer())
    one_line(load_pretrained, given, revision="main", match="given with revision; wanted none")


def test_a_missing_pad_token_becomes_the_eos_token():
    tokenizer = type(tiny_tokenizer())(
        tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<|end|>"
    )
    assert tokenizer.pad_token_id is None
    loaded = load_pretrained((TINY["gpt2"](), tokenizer))
    assert loaded.tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_a_tokenizer_with_neither_pad_nor_eos_is_refused():
    tokenizer = type(tiny_tokenizer())(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    one_line(load_pretrained, (TINY["gpt2"](), tokenizer), match="neither a pad token nor an eos")


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_every_family_comes_back_from_a_folder(name, tmp_path):
    model = TINY[name]()
    model.save_pretrained(tmp_path / name)
    tiny_tokenizer().save_pretrained(tmp_path / name)
    loaded = load_pretrained(tmp_path / name, device="cpu")
    assert loaded.name == name
    assert len(find_blocks(loaded.model)[1]) == LAYERS
    assert torch.allclose(logits(loaded.model), logits(model), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    text = "Q: Is the sky blue?"
    assert loaded.tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids


def test_the_dtype_is_float32_on_a_cpu_unless_another_is_named(folder, tmp_path):
    TINY["llama"]().to(torch.bfloat16).save_pretrained(folder)
    kinds = {None: torch.float32, "auto": torch.bfloat16, "float16": torch.float16}
    kinds |= {torch.float64: torch.float64, "torch.bfloat16": torch.bfloat16}
    for given, wanted in kinds.items():
        assert load_pretrained(str(folder), dtype=given, device="cpu").model.dtype == wanted
    one_line(load_pretrained, folder, dtype="bfloat", match="dtype is 'bfloat'; did you mean 'bf")
    one_line(load_pretrained, folder, dtype="int8", match="dtype is 'int8'")


def test_a_device_that_is_not_here_is_refused(folder):
    one_line(load_pretrained, folder, device="gpu", match="device is 'gpu'; here are: auto, cpu")
    one_line(load_pretrained, folder, device="cuda:99", match="device is 'cuda:99'; here are: auto")
    one_line(
        load_pretrained, folder, device="cpu", device_map="auto", match="both device and device_map"
    )


def test_code_that_comes_with_a_model_is_never_run(folder):
    one_line(load_pretrained, folder, trust_remote_code=True, match="trust_remote_code is on")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('it ran')")
    one_line(load_pretrained, folder, match="does not load as a model")


def cut(name: str, share: float):
    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return damage


def reconfigured(**fields):
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))

    return damage


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json; wanted the fold"),
        (cut("config.json", 0.5), "does not load as a model .*not a valid JSON"),
        (cut("config.json", 0), "does not load as a model"),
        (cut("model.safetensors", 0), "does not load as a model .SafetensorError"),
        (cut("model.safetensors", 0.01), "does not load as a model .SafetensorError"),
        (cut("model.safetensors", 0.99), "does not load as a model .SafetensorError"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no readable tokenizer"),
        (cut("tokenizer.json", 0.5), "has no readable tokenizer"),
        (reconfigured(model_type="lama"), "does not load as a model .*model type `lama`"),
        (reconfigured(model_type="bert"), "of the type 'bert', which is no causal language model"),
        (reconfigured(num_hidden_layers=LAYERS + 1), "lacks 9 of the model's weights, such as 'mo"),
        (reconfigured(intermediate_size=50), r"with shape \[\d+, \d+\]; wanted \[\d+, \d+\]"),
    ],
)
def test_a_damaged_folder_is_one_line(folder, damage, match):
    assert load_pretrained(folder).name == "tiny-llama"
    damage(folder)
    message = one_line(load_pretrained, folder, match=match)
    assert str(folder) in message


def test_models_that_predict_no_next_token_are_refused():
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = BertLMHeadModel(BertConfig(**small, intermediate_size=8, vocab_size=384))
    one_line(load_pretrained, (encoder, tiny_tokenizer()), match="type 'bert', which is no causal")
    for kind in ("t5", "distilbert", "modernbert", "bart"):
        with pytest.raises(GrainsError, match=f"type '{kind}', which is no causal"):
            loading._check_causal(AutoConfig.for_model(kind), kind)
    assert T5Config().is_encoder_decoder
    decoder = BertConfig(**small, is_decoder=True)
    loading._check_causal(decoder, "a BERT trained from left to right")


def test_a_place_that_is_not_there_is_told_the_nearest(folder, tmp_path):
    wrong = tmp_path / "tiny-lama"
    one_line(load_pretrained, wrong, match=re.escape(f"did you mean {str(folder)!r}"))
    one_line(load_pretrained, str(wrong), match="no folder or GGUF file is at")
    one_line(load_pretrained, "./nowhere/at/all", match="is at './nowhere/at/all'$")
    one_line(load_pretrained, folder / "config.json", match="wanted a folder or a .gguf file")


def test_a_hub_id_without_a_hub_fails_at_once_and_names_the_catalog(no_hub):
    message = one_line(load_pretrained, "smolm2-135m-instruct", match="no hub model within reach")
    assert "did you mean 'smollm2-135m-instruct'" in message
    one_line(load_pretrained, "nobody/nothing", match="within reach; there are: shapes-llava, smol")


# --- GGUF ----------------------------------------------------------------------------------------


def test_a_gguf_file_gives_the_very_parameters_and_ordinary_ones(tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    model, tokenizer, name = load_pretrained(file, device="cpu")
    original = TINY["llama"]()
    assert name == "tiny"
    for key, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert torch.equal(logits(model), logits(original))
    assert not hasattr(model.config, "quantization_config")
    text = "Q: Is the Earth flat?\nA: No, it is round."
    assert tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    model.double().save_pretrained(tmp_path / "saved")  # a model marked as quantised refuses both
    assert load_pretrained(tmp_path, gguf_file="tiny.gguf", dtype="bfloat16").model.dtype == (
        torch.bfloat16
    )


def test_digits_stand_alone_where_the_gguf_says_so(tmp_path):
    plain = load_pretrained(write_tiny_gguf(tmp_path / "plain.gguf")).tokenizer
    splits = load_pretrained(write_tiny_gguf(tmp_path / "s.gguf", pre_tokenizer="smollm")).tokenizer
    cuts = [tokenizer.backend_tokenizer.pre_tokenizer for tokenizer in (plain, splits)]
    words = [[word for word, _ in cut.pre_tokenize_str("in  1984")] for cut in cuts]
    assert words == [["in", "Ġ", "Ġ1984"], ["in", "ĠĠ", "1", "9", "8", "4"]]
    offsets = splits("in  1984", return_offsets_mapping=True).offset_mapping
    assert [offsets[0][0], offsets[-1][1]] == [0, 8]


def test_a_gguf_file_without_some_of_the_weights_is_one_line(tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf", without="layers.1.mlp")
    one_line(load_pretrained, file, match="lacks 3 of the model's weights, such as 'model.layers.1")


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.2, 0.9, 0.9999])
def test_a_gguf_file_that_is_cut_short_is_one_line(tmp_path, share):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    cut("tiny.gguf", share)(tmp_path)
    assert str(file) in one_line(load_pretrained, file, match="is no whole GGUF file")


def test_a_gguf_file_of_an_unknown_architecture_or_no_gguf_at_all_is_one_line(tmp_path):
    (tmp_path / "text.gguf").write_text("weights " * 100)
    one_line(load_pretrained, tmp_path / "text.gguf", match="no whole GGUF file .*magic invalid")
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "unheard-of")
    writer.add_tensor("w", np.zeros((32, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    one_line(load_pretrained, tmp_path / "odd.gguf", match="odd.gguf does not load as a model")
    one_line(load_pretrained, tmp_path, match="name one of its GGUF files: odd.gguf, text.gguf")
    one_line(load_pretrained, tmp_path, gguf_file="od.gguf", match="did you mean 'odd.gguf'")
    one_line(load_pretrained, tmp_path / "ood.gguf", match="did you mean '.*/odd.gguf'")


# --- quiet ----------------------------------------------------------------------------------------


def test_transformers_is_quiet_while_it_reads_and_as_before_afterwards(capsys, caplog):
    logger, before = logging.get_logger("transformers.test"), logging.get_verbosity()

    def chatter():
        logger.warning("something to see")
        list(logging.tqdm(range(3), desc="short"))
        said = capsys.readouterr().err + caplog.text
        caplog.clear()
        return said

    with (
        pytest.raises(GrainsError, match=r"^here is odd \(KeyError: 'x'\)$"),
        reading("here", "is odd"),
    ):
        assert chatter() == ""
        raise KeyError("x")
    assert logging.get_verbosity() == before
    loud = chatter()
    assert "something to see" in loud and "short" in loud


def test_a_progress_bar_shows_where_one_waits(capsys, monkeypatch):
    monkeypatch.setattr("grains.models.reading.SECONDS", 0.0)
    with reading("here"):
        list(logging.tqdm(range(3), desc="long"))
    assert "long" in capsys.readouterr().err


def test_want_of_memory_is_not_blamed_on_the_file():
    with pytest.raises(torch.OutOfMemoryError), reading("here"):
        raise torch.OutOfMemoryError("too large")
