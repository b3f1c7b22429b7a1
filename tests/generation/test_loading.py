"""Finding and loading a model: every fault says what, where and what next, and none hangs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from transformers import BertConfig, BertForMaskedLM, T5Config

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.errors import GeneratorError
from llmatic_hpc.generation import ModelUnavailable, Replay, create, loading
from llmatic_hpc.generation.huggingface import HuggingFace, _context, _device, _dtype
from llmatic_hpc.problems import Problem

Settings = Callable[..., GeneratorSettings]


def load(folder: Path) -> loading.LanguageModel:
    return loading.load(
        loading.locate(str(folder)), dtype=torch.float32, device="cpu", shown_as=str(folder)
    )


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network by decree, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_is_loaded_quietly(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In evaluation mode, and without a word."""
    loaded = load(copy)
    assert not loaded.model.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing", "nothing.gguf"])
def test_a_path_that_is_not_there(model: str) -> None:
    """A fallback may take over."""
    with pytest.raises(ModelUnavailable, match=r"no such file or folder; set generator\.model"):
        loading.locate(model)


def test_what_is_no_name_at_all() -> None:
    """Neither a path nor owner/name."""
    with pytest.raises(ModelUnavailable, match="neither a local folder nor a hub name"):
        loading.locate("a/b/c")


def _lose(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _half(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def _shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def _other_model(folder: Path) -> None:
    config = BertConfig(
        vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)


def _translator(folder: Path) -> None:
    T5Config(vocab_size=10).save_pretrained(folder)


def _deeper(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["n_layer"] = 3
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_lose("config.json"), "without config.json"),
        (_write("config.json", "{"), "config.json cannot be read"),
        (_write("config.json", '{"model_type": "no-such-type"}'), "cannot be loaded"),
        (_lose("model.safetensors"), "no weights .* half downloaded"),
        (_half, "cannot be loaded"),
        (_shards, r"1 of 2 weight files are missing \(model-00002"),
        (_write("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
        (_write("tokenizer.json", "{}"), "cannot be loaded"),
        (_other_model, "BertForMaskedLM, which is not a causal language model"),
        (_translator, "cannot be loaded"),
        (_deeper, r"the weights lack \d+ tensors"),
    ],
)
def test_a_damaged_folder(copy: Path, damage: Callable[[Path], object], complaint: str) -> None:
    """It names the folder; and since it wants a person, no fallback takes over."""
    damage(copy)
    with pytest.raises(GeneratorError, match=complaint) as caught:
        load(copy)
    assert not isinstance(caught.value, ModelUnavailable)
    assert str(copy) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_folder_of_gguf_files(tmp_path: Path) -> None:
    """The message names the file to ask for."""
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    with pytest.raises(GeneratorError, match=r"name the file itself: .*small\.gguf"):
        loading.locate(str(tmp_path))


def test_files_that_are_no_gguf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another kind of file, another content, a cut-off file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, content, complaint in (
        ("model.bin", b"", r"not a \.gguf file"),
        ("text.gguf", b"hello", "not a GGUF file, or a damaged one"),
        ("cut.gguf", b"GGUF\x03\x00\x00\x00", "cannot be loaded"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GeneratorError, match=complaint):
            load(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_the_package_for_gguf_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which, and how to get it."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GeneratorError, match="pip install gguf"):
        load(tmp_path / "a.gguf")


def test_a_converted_copy_loads_the_same(copy: Path, tmp_path: Path) -> None:
    """What is kept of a GGUF model is the model; a second writer does not mind."""
    loaded = load(copy)
    loading._keep(loaded, tmp_path / "cache" / "kept")
    loading._keep(loaded, tmp_path / "cache" / "kept")
    again = load(tmp_path / "cache" / "kept")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["kept"]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, again.model(ids).logits)
    assert loaded.tokenizer.get_vocab() == again.tokenizer.get_vocab()


def test_a_copy_that_cannot_be_kept_does_not_matter(copy: Path, tmp_path: Path) -> None:
    """A full or read-only cache costs time only."""
    (tmp_path / "file").write_text("in the way")
    loading._keep(load(copy), tmp_path / "file" / "kept")


@pytest.mark.usefixtures("offline")
def test_offline_by_decree() -> None:
    """HF_HUB_OFFLINE is obeyed, and named."""
    with pytest.raises(ModelUnavailable, match=r"not in the local cache, and HF_HUB_OFFLINE"):
        loading.locate("owner/name")


@pytest.mark.usefixtures("offline")
def test_a_cached_model_needs_no_network(tiny_model: Path, tmp_path: Path) -> None:
    """A whole snapshot in the cache is taken as it is; half of one is not."""
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "0123"
    shutil.copytree(tiny_model, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    assert loading.locate("owner/name").folder == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="no weights"):
        loading.locate("owner/name")


def _hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Callable[[], object]) -> None:
    """A hub that answers so."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: answer())


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The wait is bounded, whatever hangs."""
    over = Event()
    _hub(monkeypatch, tmp_path, over.wait)
    monkeypatch.setattr(loading, "HUB_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match="did not answer"):
        loading.locate("owner/name")
    assert time.monotonic() - started < 5
    over.set()


class GatedRepoError(Exception):
    """As huggingface_hub calls it."""


class RepositoryNotFoundError(Exception):
    """As huggingface_hub calls it."""


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (ConnectionError("no route to host"), "cannot be reached .*no route to host"),
        (GatedRepoError(), "gated; accept its licence at https://huggingface.co/owner/name"),
        (RepositoryNotFoundError(), "neither a local folder nor a model on the hub; check"),
    ],
)
def test_a_hub_that_says_no(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, complaint: str
) -> None:
    """Each refusal has its own advice."""

    def refuse() -> object:
        raise error

    _hub(monkeypatch, tmp_path, refuse)
    with pytest.raises(ModelUnavailable, match=complaint):
        loading.locate("owner/name")


def test_device_and_dtype() -> None:
    """auto is what the machine has; what it has not is named."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert _device("auto") == device
    assert _dtype("bfloat16", "cpu") is torch.bfloat16
    assert _dtype("auto", "cpu") is torch.float32
    with pytest.raises(GeneratorError, match=r"generator\.device = 'warp'"):
        _device("warp")


def test_context_of_many_kinds_of_model(tiny_model: Path) -> None:
    """CodeGen calls it n_positions."""
    assert _context(load(tiny_model).model.config) == 512


def test_create_makes_what_the_settings_say(
    settings: Settings, problem: Problem, tmp_path: Path
) -> None:
    """Nothing to notify about where the wish is granted."""
    said: list[str] = []
    assert isinstance(create(settings(), problem, notify=said.append), HuggingFace)
    control = create(settings(kind="procedural"), problem, notify=said.append)
    assert control.name == "procedural (control without a language model)"
    (tmp_path / "c.jsonl").write_text('{"completion": ""}\n')
    replay = create(
        settings(kind="replay", replay=str(tmp_path / "c.jsonl")), problem, notify=said.append
    )
    assert isinstance(replay, Replay)
    assert said == []


@pytest.mark.usefixtures("offline")
def test_the_fallback_is_loud(settings: Settings, problem: Problem) -> None:
    """Name and notice say that, and why, no language model writes the networks."""
    said: list[str] = []
    wish = settings(model="owner/name", fallback="procedural")
    generator = create(wish, problem, notify=said.append)
    assert generator.name.startswith(
        "procedural (control without a language model; fallback: owner/name: not in the local"
    )
    assert len(said) == 1
    assert said[0].startswith("NO LANGUAGE MODEL: owner/name: not in the local cache")
    with pytest.raises(ModelUnavailable):
        create(settings(model="owner/name"), problem, notify=said.append)


def test_no_fallback_for_a_damaged_model(settings: Settings, problem: Problem, copy: Path) -> None:
    """That would hide a fault."""
    (copy / "model.safetensors").unlink()
    with pytest.raises(GeneratorError, match="half downloaded"):
        create(settings(model=str(copy), fallback="procedural"), problem, notify=print)
