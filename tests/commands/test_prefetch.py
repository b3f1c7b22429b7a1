"""llmatic prefetch: data and model where the network is, and nothing twice."""

from __future__ import annotations

import gc
import hashlib
import io
import pickle
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from torchvision.datasets import CIFAR10

from llmatic_hpc.commands.main import cli
from llmatic_hpc.config import ProblemSettings
from llmatic_hpc.errors import DataError, LLMaticError
from llmatic_hpc.evaluation import data
from llmatic_hpc.evaluation.data import named

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


def prefetch(*overrides: str) -> str:
    """Run the command and return what it prints; what it raises comes through."""
    options = [word for text in overrides for word in ("--set", text)]
    done = CliRunner().invoke(
        cli, ["prefetch", str(SMOKE), *options], standalone_mode=False, catch_exceptions=True
    )
    if done.exception is not None:
        raise done.exception
    return done.stdout


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small CIFAR-10, packed and served as the real one is."""
    folder = tmp_path / "published"
    folder.mkdir()
    archive = folder / "cifar.tar.gz"
    random = np.random.default_rng(0)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    with tarfile.open(archive, "w:gz") as tar:

        def add(name: str, content: object) -> str:
            text = pickle.dumps(content)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
            return hashlib.md5(text).hexdigest()

        for name, kind in [("data_batch_1", "train_list"), ("test_batch", "test_list")]:
            pixels = random.integers(0, 256, (40, 3072)).astype(np.uint8)
            digest = add(name, {"data": pixels, "labels": [i % 10 for i in range(40)]})
            lists[kind].append([name, digest])
        digest = add("batches.meta", {"label_names": [str(i) for i in range(10)]})
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(CIFAR10, "train_list", lists["train_list"])
        monkeypatch.setattr(CIFAR10, "test_list", lists["test_list"])
        monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": digest})
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        yield archive
        server.shutdown()
        thread.join()


SPLIT = ("training.validation_fraction=0.25", "problem.train_images=0", "problem.test_images=0")


@pytest.mark.parametrize("name", ["there", "cifar-10-batches-py"])
def test_data_are_fetched_once(published: Path, tmp_path: Path, name: str) -> None:
    """Into the folder that the settings name, or named so; afterwards without a network."""
    wish = f"problem.data={tmp_path / name}"
    with pytest.raises(DataError, match="run `llmatic prefetch CONFIG` where the network is"):
        data.describe(ProblemSettings(data=str(tmp_path / name)))
    said = prefetch(wish, *SPLIT)
    assert said.startswith("data: ")
    assert ": 40 images for training, 40 for testing, 3 x 32 x 32, 10 classes" in said
    published.unlink()
    assert prefetch(wish, *SPLIT) == said
    assert data.describe(ProblemSettings(data=str(tmp_path / name))) == ((3, 32, 32), 10)


def test_a_download_that_broke_off(published: Path, tmp_path: Path) -> None:
    """Half an archive, or a damaged file, is fetched again."""
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / CIFAR10.filename).write_bytes(published.read_bytes()[:1000])
    prefetch(f"problem.data={folder}", *SPLIT)
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")
    prefetch(f"problem.data={folder}", *SPLIT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib's socket
def test_data_that_cannot_be_had(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing data, a wrong file and a silent server fail within seconds, saying what to do."""
    wish = f"problem.data={tmp_path / 'there'}"
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=r"could not be fetched .*unpack"):
        prefetch(wish, *SPLIT)
    published.unlink()
    with pytest.raises(DataError, match=r"could not be fetched .*404"):
        prefetch(wish, *SPLIT)
    monkeypatch.setattr(named, "FETCH_SECONDS", 0.2)
    for method in ("do_HEAD", "do_GET"):
        monkeypatch.setattr(Quiet, method, lambda self: time.sleep(2))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"could not be fetched .*timed out"):
        prefetch(wish, *SPLIT)
    assert time.monotonic() - started < 1.5
    gc.collect()


def test_data_that_are_here(tmp_path: Path) -> None:
    """Digits and files are looked at, not fetched."""
    assert prefetch().splitlines() == [
        "data: in scikit-learn: 500 images for training, 200 for testing, 3 x 32 x 32, 10 classes",
        "model: none is needed (generator.kind = 'procedural')",
    ]
    with pytest.raises(DataError, match="no such file"):
        prefetch(f"problem.data={tmp_path / 'missing.h5'}")


def test_models(test_model: Path, tmp_path: Path) -> None:
    """A file that is here is named with its size; its beginning is not good enough."""
    wish = "generator.kind=huggingface"
    assert f"model: {test_model} (" in prefetch(wish, f"generator.model={test_model}")
    half = tmp_path / "half.gguf"
    with test_model.open("rb") as stream:
        half.write_bytes(stream.read(1 << 20))
    with pytest.raises(LLMaticError, match="half downloaded"):
        prefetch(wish, f"generator.model={half}")
    with pytest.raises(LLMaticError, match="no such file or folder"):
        prefetch(wish, "generator.model=/no/such/model")


def test_other_generators(tmp_path: Path) -> None:
    """A file of completions is read; a server is asked."""
    completions = tmp_path / "c.jsonl"
    completions.write_text('{"completion": ""}\n')
    replay = ("generator.kind=replay", f"generator.replay={completions}")
    assert f"completions are in {completions}" in prefetch(*replay)
    completions.unlink()
    with pytest.raises(LLMaticError, match="no such file"):
        prefetch(*replay)
    with pytest.raises(LLMaticError, match="cannot be reached"):
        prefetch("generator.kind=endpoint", "generator.url=http://127.0.0.1:9")
