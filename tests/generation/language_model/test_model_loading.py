"""Finding and loading a model: every fault says what, where and what next, and none hangs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5Config,
)

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.errors import GeneratorError
from llmatic_hpc.generation import ModelUnavailable, Replay, create
from llmatic_hpc.generation.language_model import device as devices
from llmatic_hpc.generation.language_model import model_files as weights
from llmatic_hpc.generation.language_model import model_loading as loading
from llmatic_hpc.generation.language_model.huggingface import HuggingFace
from llmatic_hpc.generation.language_model.local_model import _context
from llmatic_hpc.types import Problem

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
def tiny_gguf(tmp_path: Path) -> Path:
    """A GGUF file, as the package gguf writes it, with all kinds of entries and two tensors."""
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "bc", ""])
    writer.add_array("numbers", [1.5, 2.5])
    writer.add_bool("yes", True)
    writer.add_custom_alignment(64)
    writer.add_tensor("one", np.ones(5, np.float32))
    blocks = gguf.quants.quantize(np.ones((3, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("two", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network by decree, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_is_loaded_quietly(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The model is in evaluation mode, and nothing is printed."""
    loaded = load(copy)
    assert not loaded.model.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing", "nothing.gguf"])
def test_a_path_that_is_not_there(model: str) -> None:
    """No fallback takes over for a slip in a path."""
    with pytest.raises(
        GeneratorError, match=r"no such file or folder; generator\.model names"
    ) as e:
        loading.locate(model)
    assert not isinstance(e.value, ModelUnavailable)


def test_what_is_no_name_at_all() -> None:
    """A name that is neither a path nor owner/name is refused."""
    with pytest.raises(ModelUnavailable, match="neither a local folder nor a hub name"):
        loading.locate("a/b/c")


def _lose(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _half(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def _no_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def _head(kind: str) -> Callable[[Path], object]:
    """The configuration of a model with another head."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["architectures"] = [kind]
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _encoder(folder: Path) -> None:
    config = BertConfig(
        vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


def _classifier(folder: Path) -> None:
    config = GPT2Config(vocab_size=400, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    GPT2ForSequenceClassification(config).save_pretrained(folder)


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
        (
            _write("config.json", '{"model_type": "no-such-type"}'),
            "has model type `no-such-type` but Transformers does not recognize",
        ),
        (_write("config.json", "{}"), "Should have a `model_type` key in its config.json"),
        (_lose("model.safetensors"), "no weights .* half downloaded"),
        (_half, r"model\.safetensors is damaged or cut off \(5,000 bytes\): half downloaded"),
        (_no_header, r"model\.safetensors is damaged or cut off \(100 bytes\): half downloaded"),
        (_write("model.safetensors", ""), r"model\.safetensors is damaged or cut off \(0 bytes\)"),
        (_shards, r"1 of 2 weight files are missing \(model-00002"),
        (_write("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
        (_write("tokenizer.json", "{}"), "cannot be loaded"),
        (_other_model, "BertForMaskedLM, which is not a causal language model"),
        (_encoder, "BertModel, which is not a causal language model; set generator.model"),
        (_classifier, "GPT2ForSequenceClassification, which is not a causal language model"),
        (_head("CodeGenModel"), "CodeGenModel, which is not a causal language model"),
        (_translator, "a model of type t5, which is not a causal language model"),
        (_deeper, r"the weights lack \d+ tensors"),
    ],
)
def test_a_damaged_folder(copy: Path, damage: Callable[[Path], object], complaint: str) -> None:
    """The error names the folder; a person is needed, so no fallback takes over."""
    damage(copy)
    with pytest.raises(GeneratorError, match=complaint) as caught:
        load(copy)
    assert not isinstance(caught.value, ModelUnavailable)
    assert str(copy) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_lose("tokenizer.json"), "cannot be loaded"),
        (_write("tokenizer.json", "{}"), "cannot be loaded"),
        (_classifier, "not a causal language model"),
    ],
)
def test_what_prefetch_looks_at(
    copy: Path, damage: Callable[[Path], object], complaint: str
) -> None:
    """All but the weights' numbers; a whole model has a size."""
    assert loading.check(loading.locate(str(copy))) == weights.size_on_disk(copy) > 100_000
    damage(copy)
    with pytest.raises(GeneratorError, match=complaint):
        loading.check(loading.locate(str(copy)))


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
        ("cut.gguf", b"GGUF\x03\x00\x00\x00", "cut off .* half downloaded"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GeneratorError, match=complaint):
            load(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_gguf_file_that_broke_off(tiny_gguf: Path, tmp_path: Path) -> None:
    """Wherever it did, and before any of it is read in."""
    whole = tiny_gguf.read_bytes()
    assert weights.gguf_elements(tiny_gguf) == 3 * 32 + 5
    for length in (30, len(whole) // 2, len(whole) - 64):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(GeneratorError, match="half downloaded"):
            load(tmp_path / "cut.gguf")
        with pytest.raises(GeneratorError, match=r"cut\.gguf"):
            loading.check(loading.locate(str(tmp_path / "cut.gguf")))


def test_the_package_for_gguf_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package and how to install it."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(GeneratorError, match="pip install gguf"):
        load(tmp_path / "a.gguf")


def test_a_converted_copy_loads_the_same(copy: Path, tmp_path: Path) -> None:
    """The kept copy of a GGUF model writes the same; two writers do no harm."""
    loaded = load(copy)
    loading._keep(loaded, tmp_path / "cache" / "kept")
    loading._keep(loaded, tmp_path / "cache" / "kept")
    again = load(tmp_path / "cache" / "kept")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["kept"]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, again.model(ids).logits)
    assert loaded.tokenizer.get_vocab() == again.tokenizer.get_vocab()


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_fewer_bits(copy: Path, bits: str) -> None:
    """Linear layers keep their weights in 8 or 4 bits, and the model still writes."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not here")
    options = {"dtype": torch.float32, "device": "cpu", "shown_as": str(copy)}
    plain = loading.load(loading.locate(str(copy)), **options).model
    model = loading.load(loading.locate(str(copy)), quantization=bits, **options).model
    assert model.get_memory_footprint() < plain.get_memory_footprint()
    ids = torch.arange(20)[None]
    near = torch.nn.functional.cosine_similarity(model(ids).logits, plain(ids).logits, dim=-1)
    assert near.mean() > 0.9


def test_fewer_bits_without_their_package(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says what to install, or that the file has its own precision, before loading."""
    options = {"dtype": torch.float32, "device": "cpu", "quantization": "8bit", "shown_as": "it"}
    with pytest.raises(GeneratorError, match="own precision"):
        loading.load(copy / "model.gguf", **options)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GeneratorError, match=r"pip install 'llmatic-hpc\[quantization\]'"):
        loading.load(copy, **options)


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
    assert loading.locate("owner/name") == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="no weights"):
        loading.locate("owner/name")


def _hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Callable[[], object]) -> None:
    """A hub that answers so."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: answer())


@pytest.mark.parametrize("damage", [_half, _lose("model.safetensors")])
def test_a_damaged_cache_is_fetched_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], object],
) -> None:  # fmt: skip
    """A cut-off file in the cache is fetched again, a whole one is not."""
    _hub(monkeypatch, tmp_path, lambda: SimpleNamespace(siblings=[]))
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    shutil.copytree(tiny_model, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    damage(snapshot)
    cached, forced = huggingface_hub.snapshot_download, []

    def download(name: str, *, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            return str(cached(name, local_files_only=True))
        forced.append(options["force_download"])
        shutil.copytree(tiny_model, snapshot, dirs_exist_ok=True)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):
        assert loading.locate("owner/name") == snapshot
    assert forced == [damage is _half]


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


# Made without the answer of a server that they tell of.
_gated = GatedRepoError.__new__(GatedRepoError)
_absent = RepositoryNotFoundError.__new__(RepositoryNotFoundError)


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (ConnectionError("no route to host"), "cannot be reached .*no route to host"),
        (_gated, "gated; accept its licence at https://huggingface.co/owner/name"),
        (_absent, "neither a local folder nor a model on the hub; check"),
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


@pytest.mark.parametrize("in_shards", [False, True])
def test_bytes_are_known_beforehand(copy: Path, in_shards: bool) -> None:
    """Sizes in memory are known to the byte from the files, whatever they were saved as."""
    model = load(copy).model
    if in_shards:
        (copy / "model.safetensors").unlink()
        model.to(torch.bfloat16).save_pretrained(copy, max_shard_size="100KB")
        assert len(list(copy.glob("*.safetensors"))) > 1
    numbers = sum(p.numel() for p in model.parameters())
    assert weights.bytes_needed(copy, torch.float32) == 4 * numbers
    assert weights.bytes_needed(copy, torch.float16) == 2 * numbers
    assert weights.size_on_disk(copy) == sum(f.stat().st_size for f in copy.glob("*.safetensors"))


def test_bytes_of_the_older_format(copy: Path) -> None:
    """pytorch_model.bin, nearly."""
    model = load(copy).model
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    numbers = sum(p.numel() for p in model.parameters())
    assert weights.bytes_needed(copy, torch.bfloat16) == pytest.approx(2 * numbers, rel=0.1)
    assert load(copy).model is not None


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_too_large_for_the_machine(
    copy: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The refusal says how much is needed and how much is there, before loading."""
    monkeypatch.setattr(devices, "memory_left", lambda device: 100)
    monkeypatch.setattr(loading, "_load_folder", lambda *args: pytest.fail("it was loaded"))
    path = copy if kind == "folder" else tiny_gguf
    with pytest.raises(
        GeneratorError,
        match=r"weights need 0\.00 GB as float32, but main memory has 0\.00 GB left; set "
        r"generator\.model to a smaller one, set generator\.dtype = 'bfloat16', or ask for more",
    ) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_too_large_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Main memory and the GPU's are looked at; the message names the one that is too small."""
    left = {"cpu": 10**12, "cuda:0": 3 * 10**9}
    monkeypatch.setattr(devices, "memory_left", lambda device: left[device])
    devices.check_memory(2 * 10**9, torch.bfloat16, "cuda:0", "m")
    devices.check_memory(4 * 10**9, torch.bfloat16, "cpu", "m")
    with pytest.raises(GeneratorError, match=r"4\.00 GB as bfloat16, but cuda:0 has 3\.00 GB") as e:
        devices.check_memory(4 * 10**9, torch.bfloat16, "cuda:0", "m")
    assert "generator.dtype" not in str(e.value)


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_192_000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "5000",
          "sys/fs/cgroup/a/memory.current": "3000",
          "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 500\n",
          "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/b/memory.current": "3000"},
         2500),
        ({"proc/self/cgroup": "5:cpu:/\n4:memory:/slurm/job_1\n",
          "sys/fs/cgroup/memory/slurm/job_1/memory.limit_in_bytes": "7000",
          "sys/fs/cgroup/memory/slurm/job_1/memory.usage_in_bytes": "8000",
          "sys/fs/cgroup/memory/slurm/job_1/memory.stat": "total_inactive_file 0\n"}, 0),
    ],
    ids=["machine", "version 2", "version 1"],
)  # fmt: skip
def test_memory_that_is_left(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """The tightest of the machine and the control groups above this process."""
    root = _tree(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert devices.memory_left("cpu", root) == expected


def test_memory_left_here() -> None:
    """Memory of this machine is found, too."""
    assert 0 < devices.memory_left() < 2**50


def test_device_and_dtype() -> None:
    """auto is what the machine has; what it has not is named."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert devices.choose("auto") == device
    assert devices.precision("bfloat16", "cpu") is torch.bfloat16
    assert devices.precision("auto", "cpu") is torch.float32
    with pytest.raises(GeneratorError, match=r"generator\.device = 'warp'"):
        devices.choose("warp")


def test_context_of_many_kinds_of_model(tiny_model: Path) -> None:
    """CodeGen calls it n_positions."""
    assert _context(load(tiny_model).model.config) == 512


def test_create_makes_what_the_settings_say(
    settings: Settings, problem: Problem, tmp_path: Path
) -> None:
    """A wish that is granted says only that a model is being loaded, which takes a while."""
    said: list[str] = []
    assert isinstance(create(settings(), problem, notify=said.append), HuggingFace)
    assert said.pop() == f"loading the model {settings().model}"
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
    assert len(said) == 2
    assert said[1].startswith("NO LANGUAGE MODEL: owner/name: not in the local cache")
    with pytest.raises(ModelUnavailable):
        create(settings(model="owner/name"), problem, notify=said.append)


def test_no_fallback_for_a_damaged_model(settings: Settings, problem: Problem, copy: Path) -> None:
    """A fallback would hide the fault."""
    (copy / "model.safetensors").unlink()
    with pytest.raises(GeneratorError, match="half downloaded"):
        create(settings(model=str(copy), fallback="procedural"), problem, notify=print)
