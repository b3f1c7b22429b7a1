"""Networks taken out of a run: each is loaded and run by a process that lacks this package."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from llmatic_hpc import config as configuration
from llmatic_hpc import problems, store
from llmatic_hpc.commands.main import cli
from llmatic_hpc.config import Config
from llmatic_hpc.config.recipes import RECIPES, settings_of
from llmatic_hpc.coordinator import exporting
from llmatic_hpc.errors import LLMaticError
from llmatic_hpc.evaluation import data, weights
from llmatic_hpc.evaluation.checkpoint import NAME
from llmatic_hpc.problems.images import seeds
from llmatic_hpc.report import front
from llmatic_hpc.report.card import Trained, card
from llmatic_hpc.rundir.paths import ExportPaths, RunPaths
from llmatic_hpc.types import Interface, Outcome

from ..evaluation.helpers import INITIAL
from ..store.conftest import made_up, small_config

CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
STRANGER = """
import importlib.util, sys
sys.path[:0] = [{folder!r}, {packages!r}]
assert importlib.util.find_spec("llmatic_hpc") is None
{code}
assert not [name for name in sys.modules if "llmatic" in name]
"""


def stranger(folder: Path, code: str) -> str:
    """Run ``code`` in a process without this package, which lacks even the link to its checkout."""
    text = STRANGER.format(folder=str(folder), packages=sysconfig.get_paths()["purelib"], code=code)
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", text],
        capture_output=True, text=True, check=False, cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(**training: object) -> Config:
    """Settings of a run on a few digits, whose trainings take a second."""
    base = small_config()
    return replace(
        base,
        problem=replace(base.problem, train_images=200, test_images=60),
        training=replace(
            base.training, epochs=2, learning_rate=0.01, device="cpu", threads=1, **training
        ),
    )


def run_of(folder: Path, source: str = INITIAL, config: Config | None = None) -> Path:
    """Write a made-up run whose candidate 0 has this source and a score."""
    record = made_up(settings=config or settings())
    record.candidates["source"][0] = source
    record.candidates["seed"][0] = 7
    folder.mkdir(parents=True)
    store.commit(RunPaths(folder), record)
    return folder


def llmatic(*words: str | os.PathLike[str]) -> Result:
    """Call the command line; an error stays an exception."""
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


def complaint(*words: str | os.PathLike[str]) -> str:
    """Return the message of a command that fails for the user's fault."""
    error = llmatic("export", *words).exception
    assert isinstance(error, LLMaticError) or type(error).__module__ == "click.exceptions", error
    return str(error)


# --- source ---------------------------------------------------------------------------------------


def test_a_file_says_what_its_network_is_given(tmp_path: Path) -> None:
    """Shape, range and classes stand in its comment; without the data why they do not."""
    run = run_of(tmp_path / "run")
    assert llmatic("export", run, "--candidate", "0", "--output", tmp_path / "a.py").exit_code == 0
    text = (tmp_path / "a.py").read_text()
    assert "# input: (N, 3, 32, 32) float32, from -1 to 1, of pixels from 0 to 255: pixel" in text
    assert "# output: (N, 10), a score for each class: 0, 1, 2" in text
    compile(text, "a.py", "exec")
    elsewhere = replace(settings(), problem=replace(settings().problem, data="/none/x.npz"))
    run = run_of(tmp_path / "other", config=elsewhere)
    assert llmatic("export", run, "--candidate", "0", "--output", tmp_path / "b.py").exit_code == 0
    assert "# input and classes: not known here: /none/x.npz" in (tmp_path / "b.py").read_text()


def test_lines_of_a_prompt_stay_within_the_comment() -> None:
    """A prompt of several lines is a user's; none of them becomes code."""
    record = made_up()
    row = int(np.flatnonzero(record.candidates["prompt"] >= 0)[0])
    prompts = list(record.prompts)
    prompts[record.candidates["prompt"][row]] = "Add a layer\nimport os"
    record.prompts = tuple(prompts)
    assert "\nimport os" not in exporting.network(record, row)


@pytest.fixture
def cell_run(tmp_path: Path) -> Path:
    """A made-up run whose candidate 0 is a cell of NAS-Bench-201."""
    base = small_config()
    problem = replace(base.problem, kind="nasbench201", dataset="cifar100")
    record = made_up(settings=replace(base, problem=problem))
    record.candidates["architecture"][0] = CELL
    (tmp_path / "cells").mkdir()
    store.commit(RunPaths(tmp_path / "cells"), record)
    return tmp_path / "cells"


@pytest.mark.slow
def test_a_cell_becomes_a_whole_network(cell_run: Path, tmp_path: Path, test_data: Path) -> None:
    """Its parameters and multiply-adds, counted elsewhere, are those of the benchmark's table."""
    words = ("export", cell_run, "--candidate", "0", "--output", tmp_path / "whole.py")
    assert llmatic(*words).exit_code == 0
    code = """
import json, torch, whole
network = whole.Net().eval()
counts = [sum(p.numel() for p in network.parameters()), 0]
def count(module, given, made):
    if isinstance(module, torch.nn.Conv2d):
        counts[1] += module.weight.numel() * made.shape[2] * made.shape[3]
    elif isinstance(module, torch.nn.Linear):
        counts[1] += module.weight.numel() + module.bias.numel()
for module in network.modules():
    module.register_forward_hook(count)
made = network(torch.rand(1, 3, 32, 32))
assert made.shape == (1, 100) and torch.isfinite(made).all()
print(json.dumps(counts))
"""
    params, flops = json.loads(stranger(tmp_path, code))
    with h5py.File(test_data / "nasbench201.h5") as file:
        row = [text.decode() for text in file["arch_str"][:]].index(CELL)
        group = file["cifar100"]
        assert math.isclose(params / 1e6, group["params_m"][row], rel_tol=1e-6)
        assert math.isclose(flops / 1e6, group["flops_m"][row], rel_tol=1e-6)


def test_the_cell_alone_on_request(cell_run: Path, tmp_path: Path) -> None:
    """It is the record's source, for a search to begin with; and no weights come of a table."""
    words = (cell_run, "--candidate", "0", "--output")
    assert llmatic("export", *words, tmp_path / "cell.py", "--cell").exit_code == 0
    source = store.load(RunPaths(cell_run).record).candidates["source"][0]
    text = (tmp_path / "cell.py").read_text()
    assert text.endswith(source)
    assert "# input" not in text
    said = complaint(*words, tmp_path / "net.py", "--weights")
    assert "problem.kind = 'nasbench201' has none" in said


# --- front ----------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_smaller_equals(tmp_path: Path) -> None:
    """By definition, over any axis, and every file of the list is there."""
    run = run_of(tmp_path / "run")
    record = store.load(RunPaths(run).record)
    record.candidates["params"][:] = np.arange(record.rows)[::-1] // 3 + 1
    store.commit(RunPaths(run), record)
    fitness = np.where(record.candidates["status"] == b"scored", record.candidates["fitness"], -1.0)
    for axis in ("flops", "params", "ratio"):
        size = record.candidates[axis]
        expected = {
            row
            for row in range(record.rows)
            if fitness[row] > 0
            and not any(
                size[other] <= size[row] and (fitness[other], -size[other], -other) >
                (fitness[row], -size[row], -row)
                for other in range(record.rows)
                if fitness[other] > 0
            )
        }  # fmt: skip
        rows = front.front(record, axis)
        assert set(rows) == expected, axis
        assert np.all(np.diff(size[rows]) > 0)
    done = llmatic("export", run, "--pareto", tmp_path / "front", "--over", "params")
    assert done.exit_code == 0
    names = re.findall(r"\]\((\w+\.py)\)", (tmp_path / "front" / "README.md").read_text())
    assert names == [front.file_of(row) for row in front.front(record, "params")]
    assert all((tmp_path / "front" / name).read_text().startswith("# candidate") for name in names)
    again = (run, "--pareto", tmp_path / "front")
    assert "is not empty; --force writes into it" in complaint(*again)
    assert "there is no such axis; there are: activation_bytes" in complaint(
        *again, "--force", "--over", "size"
    )
    assert "stands alone" in complaint(*again, "--weights")
    assert "is no folder" in complaint(run, "--pareto", tmp_path / "front" / "README.md")


# --- errors ---------------------------------------------------------------------------------------


def test_errors_come_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what and what next."""
    run = run_of(tmp_path / "run")
    monkeypatch.setattr(weights, "make", lambda *_, **__: pytest.fail("it trains"))
    words = (run, "--output", tmp_path / "net.py", "--weights", "--candidate")
    record = store.load(RunPaths(run).record)
    unfit = int(np.flatnonzero(record.candidates["status"] == b"invalid")[0])
    said = complaint(*words, str(unfit))
    assert said.startswith(f"candidate {unfit} has no score")
    assert "it is invalid" in said
    assert "llmatic elites RUN" in said
    (tmp_path / "net.safetensors").write_bytes(b"mine")
    assert complaint(*words, "0") == f"{tmp_path}/net.safetensors: exists; --force overwrites it"
    assert (tmp_path / "net.safetensors").read_bytes() == b"mine"
    said = complaint(run, "--candidate", "0", "--output", tmp_path / "net", "--weights")
    assert "say FILE.py" in said
    said = complaint(run, "--candidate", "0", "--output", tmp_path / "no" / "net.py", "--weights")
    assert said == f"{tmp_path}/no: no such folder; make it first"
    assert "'longer' is not one of 'run', 'paper', 'long'" in complaint(
        *words, "0", "--recipe", "longer"
    )
    assert "go with --weights" in complaint(
        run, "--best", "--output", tmp_path / "x.py", "--recipe", "long"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'llmatic-hpc[onnx]'" in complaint(*words, "0", "--onnx", "--force")


def test_what_was_not_trained_in_the_run(tmp_path: Path) -> None:
    """The first generation of a run that trains none of it has a score and no training."""
    config = settings()
    config = replace(config, search=replace(config.search, train_start=False))
    record = made_up(settings=config)
    record.candidates["source"][0] = INITIAL
    with pytest.raises(LLMaticError, match="--recipe paper or --recipe long"):
        exporting.training(record, 0, "run", (), None)
    assert exporting.training(record, 0, "paper", (), None).config.training.in_full == 50


def test_other_data_are_refused_unless_named(tmp_path: Path) -> None:
    """Data where the run's data lay may have changed; a moved copy is the same."""
    numbers, labels = np.random.default_rng(1).normal(0, 1, (60, 4)), np.arange(60) % 2
    config = settings()
    problem = replace(config.problem, data=str(tmp_path / "d.npz"), train_images=0, test_images=0)
    config = replace(config, problem=problem)
    np.savez(tmp_path / "d.npz", x=numbers, y=labels)
    record = made_up(settings=config)
    record.candidates["source"][0] = problems.problem_of(config).initial_source
    (_, record.data_sha256, _) = data.checked(problem, config.training, seed=0)
    assert exporting.training(record, 0, "run", (), None).data_sha256 == record.data_sha256
    (tmp_path / "d.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(LLMaticError, match=r"d\.npz"):
        exporting.training(record, 0, "run", (), None)
    moved = (f"problem.data={tmp_path}/moved.npz",)
    assert exporting.training(record, 0, "run", moved, None).data_sha256 == record.data_sha256
    np.savez(tmp_path / "d.npz", x=numbers + 1, y=labels)
    with pytest.raises(LLMaticError, match="other data than the run was started with"):
        exporting.training(record, 0, "run", (), None)
    np.savez(tmp_path / "moved.npz", x=numbers + 1, y=labels)
    assert exporting.training(record, 0, "run", moved, None).data_sha256 != record.data_sha256


def test_a_duplicate_is_trained_as_its_original() -> None:
    """Its own source may name layers otherwise, and the weights have the names of one."""
    record = made_up(settings=settings())
    record.candidates["source"][0] = INITIAL
    record.candidates["status"][6], record.candidates["duplicate_of"][6] = b"duplicate", 0
    found = exporting.training(record, 6, "run", (), None)
    assert (found.known.candidate, found.known.source) == (0, INITIAL)


# --- recipes and cards ----------------------------------------------------------------------------


def test_recipes_are_settings() -> None:
    """The paper's is the defaults; a long one fits its data; --set has the last word."""
    changed = settings(schedule="cosine", augmentation=("flip",), rungs=((1, "niche"), (3,)))
    paper = configuration.override(changed, settings_of("paper", (3, 32, 32))).training
    default = Config().training
    for name in ("epochs", "batch", "learning_rate", "momentum", "optimizer", "schedule",
                 "weight_decay", "label_smoothing", "class_weights", "augmentation"):  # fmt: skip
        assert getattr(paper, name) == getattr(default, name), name
    assert paper.in_full == 50
    for recipe in RECIPES:
        assert configuration.override(Config(), settings_of(recipe, (3, 32, 32)))
    long = configuration.override(changed, settings_of("long", (3, 32, 32))).training
    assert (long.schedule, long.augmentation, long.in_full) == ("cosine", ("flip", "crop"), 200)
    for shape in ((3, 8, 8), (6, 20), (7,)):
        found = configuration.override(Config(), settings_of("long", shape)).training
        assert found.augmentation == (), shape
    record = made_up(settings=changed)
    record.candidates["source"][0] = INITIAL
    made = exporting.training(record, 0, "long", ("training.epochs=3",), None)
    assert made.words().startswith("recipe long: 3 epochs, adamw")
    assert exporting.training(record, 0, "run", (), 5).config.training.in_full == 3


def trained(**changes: object) -> Trained:
    outcome = Outcome("scored", fitness=0.5, valid_accuracy=0.5, test_accuracy=0.25,
                      train_loss=1.5, epochs=2, device="cpu")  # fmt: skip
    facts = Trained(how="recipe run", seed=7, outcome=outcome, same=1.0, reloading="",
                    onnx_batch=None, as_recorded=False, data_sha256="12")  # fmt: skip
    return replace(facts, **changes)


def test_a_card_says_what_to_doubt() -> None:
    """Weights that do not give the same again, or cannot be loaded, and who wrote the code."""
    record = made_up()
    record.environment["generator"] = "a/model"
    facts = Interface((3, 32, 32), 2, names=("cat", "dog"))

    def text(made: Trained, name: str = "net") -> str:
        return card(record, 0, INITIAL, settings(), facts, made, ExportPaths(Path(f"{name}.py")))

    assert "same class for every validation and test example" in text(trained())
    assert "99.00 % of the examples only" in text(trained(same=0.99))
    assert "could not be loaded again: no key" in text(trained(reloading="no key", same=math.nan))
    assert "written by a/model, not by a person" in text(trained())
    assert "cat, dog" in text(trained())
    record.data_sha256 = "12"
    assert "SHA-256 12, those of the run" in text(trained())
    assert "which are not those of the run" in text(trained(data_sha256="34"))
    assert "to the last digit" not in text(trained())
    assert "one example at a time" in text(trained(onnx_batch=1))
    assert 'runpy.run_path("net-1.py")["Net"]()' in text(trained(), "net-1")
    assert "| test | 0.2500 |  |" in text(trained())


def test_progress_is_read_from_a_checkpoint_and_from_nothing_else(tmp_path: Path) -> None:
    """A child wrote the file: a link, a pipe or any bytes are no progress, and nobody waits."""
    state = tmp_path / NAME
    assert weights.progress(state) is None
    values = json.dumps({"epoch": 3, "train_loss": 0.5})
    state.write_bytes(safetensors.numpy.save({"x": np.zeros(2)}, {"values": values}))
    assert weights.progress(state) == (3, 0.5)
    (tmp_path / "link").symlink_to(state)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    (tmp_path / "deep").write_bytes((1 << 20).to_bytes(8, "little") + b"[" * (1 << 20))
    (tmp_path / "odd").write_bytes((4).to_bytes(8, "little") + b"[{}]")
    for name in ("link", "pipe", "long", "deep", "odd"):
        assert weights.progress(tmp_path / name) is None, name


# --- weights --------------------------------------------------------------------------------------

PREDICT = """
import numpy as np, torch
examples = torch.from_numpy(np.load("examples.npy"))
{load}
print(network(x).argmax(dim=1).tolist())
"""


def program(file: Path) -> str:
    """Return the program of a card, given the examples of a file."""
    (found,) = re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)
    lines = [line for line in found.splitlines() if not line.startswith(("examples =", "print("))]
    return PREDICT.format(load="\n".join(lines))


def examples(config: Config, folder: Path) -> list[int]:
    """Write raw test examples as a stranger has them; return their classes."""
    found = data.load(config.problem, config.training, seed=config.run.seed).test
    np.save(folder / "examples.npy", found.images.transpose(0, 3, 1, 2))
    return found.labels.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "RESIDUAL", "ATTENTION", "RECURRENT"])
def test_a_stranger_gets_the_score_on_the_card(name: str, tmp_path: Path) -> None:
    """The program on the card, run as it stands there, predicts what the score says."""
    config = settings()
    source = INITIAL
    if name != "plain":
        number = seeds.SEEDS.index(getattr(seeds, name))
        source = problems.problem_of(config).seeds[number]
    run = run_of(tmp_path / "run", source, config)
    done = llmatic("export", run, "--candidate", "0", "--output", tmp_path / "net.py", "--weights")
    assert done.exception is None, done.exception
    labels = examples(config, tmp_path)
    predicted = json.loads(stranger(tmp_path, program(tmp_path / "net.md")))
    (score,) = re.findall(r"\| test \| (0\.\d{4}) \|", (tmp_path / "net.md").read_text())
    assert round(float(np.mean(np.array(predicted) == labels)), 4) == float(score)
    assert "same class for every validation and test example" in (tmp_path / "net.md").read_text()
    assert not (tmp_path / "net.training").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6,), (2, 20)])
def test_raw_numbers_are_standardised_as_the_card_says(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Tables and sequences: mean and deviation of the training data go with the network."""
    generator = np.random.default_rng(3)
    labels = np.arange(240) % 3
    numbers = generator.normal(1e4, 5, (240, *shape)) + 30 * labels.reshape(-1, *[1 for _ in shape])
    if len(shape) == 1:
        numbers[:, 0] = 4.0  # a feature that says nothing
    np.savez(tmp_path / "d.npz", x=numbers, y=np.array(["red", "green", "blue"])[labels])
    config = settings()
    layout = "tables" if len(shape) == 1 else "sequences"
    problem = replace(config.problem, data=str(tmp_path / "d.npz"), layout=layout)
    config = replace(config, problem=replace(problem, train_images=0, test_images=0))
    run = run_of(tmp_path / "run", problems.problem_of(config).initial_source, config)
    words = ("--candidate", "0", "--output", tmp_path / "net.py", "--weights", "--recipe", "long")
    done = llmatic("export", run, *words, "--set", "training.learning_rate=0.05")
    assert done.exception is None, done.exception
    np.save(tmp_path / "examples.npy", numbers)
    text = (tmp_path / "net.md").read_text()
    predicted = json.loads(stranger(tmp_path, program(tmp_path / "net.md")))
    found = data.load(config.problem, config.training, seed=0)
    assert "blue, green, red" in text
    assert np.mean(np.array(["blue", "green", "red"])[predicted] ==
                   np.array(["red", "green", "blue"])[labels]) > 0.9  # fmt: skip
    mean, deviation = data.scale(config.problem, config.training, seed=0) or pytest.fail("none")
    with np.errstate(invalid="ignore"):
        axes = (-1, 1) if len(shape) == 2 else (-1,)
        again = (numbers - mean.reshape(axes)) / deviation.reshape(axes)
    whole = np.concatenate([part.images for part in (found.train, found.validation, found.test)])
    assert np.allclose(np.sort(again, axis=0), np.sort(whole, axis=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("self.noise = torch.randn(10)", "predicted"),
        ("self.register_buffer('noise', torch.randn(10))", ""),
    ],
)
def test_weights_that_are_not_all_are_told(change: str, note: str, tmp_path: Path) -> None:
    """Numbers that a network keeps in plain attributes are not in the file; the card says it."""
    source = INITIAL.replace("super().__init__()", f"super().__init__()\n        {change}")
    source = source.replace("return self.fc1(x)", "return self.fc1(x) + 50 * self.noise")
    assert "50" in source
    run = run_of(tmp_path / "run", source)
    done = llmatic("export", run, "--candidate", "0", "--output", tmp_path / "net.py", "--weights")
    assert done.exception is None, done.exception
    assert ("NOTE: another process" in done.stderr) == bool(note)
    assert ("of the examples only" in (tmp_path / "net.md").read_text()) == bool(note)


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    """SIGTERM saves it and exits with 75; the same line continues to the same weights."""
    run = run_of(tmp_path / "run", config=settings(augmentation=("flip",)))

    def command(folder: str) -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return [
            sys.executable, "-m", "llmatic_hpc", "export", str(run), "--candidate", "0",
            "--output", str(tmp_path / folder / "net.py"), "--weights",
            "--set", "training.epochs=120", "--set", "training.checkpoint_seconds=0",
        ]  # fmt: skip

    process = subprocess.Popen(command("a"), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch " in line and " of 120, loss" in line:
            process.send_signal(signal.SIGTERM)
            break
    _, said = process.communicate()
    assert process.returncode == 75, said
    assert "the same command continues it" in said
    assert not (tmp_path / "a" / "net.safetensors").exists()
    begun = weights.progress(ExportPaths(tmp_path / "a" / "net.py").state)
    assert begun is not None
    assert begun[0] < 120
    for folder in ("a", "b"):
        subprocess.run(command(folder), check=True, capture_output=True)
    found = [(tmp_path / folder / "net.safetensors").read_bytes() for folder in ("a", "b")]
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_full_disk_is_a_message(tmp_path: Path) -> None:
    """A file of weights that cannot grow so far is named."""
    run = run_of(tmp_path / "run")
    words = (run, "--candidate", "0", "--output", tmp_path / "net.py", "--weights")
    said = complaint(*words, "--set", "containment.file_bytes=20000")
    assert "its weights cannot be written" in said
    assert not (tmp_path / "net.safetensors").exists()


def test_a_full_disk_at_the_end_keeps_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are still in the folder of the training, and the message names it."""
    record = made_up(settings=settings())
    record.candidates["source"][0] = INITIAL
    training = exporting.training(record, 0, "run", (), None)
    paths = ExportPaths(tmp_path / "net.py")
    paths.training.mkdir()
    (paths.training / weights.WEIGHTS).write_bytes(b"weights")
    made = weights.Made(None, Outcome("scored"), 1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(weights, "make", lambda *_, **__: made)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.shutil, "copyfileobj", full)  # type: ignore[attr-defined]
    with pytest.raises(LLMaticError, match="No space left on device; what was trained is in"):
        training.make(paths, onnx=False)
    assert (paths.training / weights.WEIGHTS).read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.training"]


def test_what_a_child_made_a_link_is_not_followed(tmp_path: Path) -> None:
    """A candidate that leaves a link or a pipe in place of its weights gets nothing copied."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "made").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        weights.take(tmp_path / "made", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- ONNX -----------------------------------------------------------------------------------------

COMPARE = """
import numpy as np, onnxruntime, torch
{load}
session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
for count in {counts}:
    x = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
    (made,) = session.run(None, {{"input": x.numpy()}})
    expected = network(x).detach().numpy()
    assert made.shape == expected.shape == (count, 10)
    assert np.abs(made - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())
print("alike")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "counts"),
    [
        (INITIAL, (1, 2, 5)),
        ("seed", (1, 2, 5)),
        (INITIAL.replace("torch.flatten(x, 1)", "x.reshape(len(x), -1)"), (1,)),
    ],
)
def test_onnx_gives_what_torch_gives(source: str, counts: tuple[int, ...], tmp_path: Path) -> None:
    """To 1e-4, in a process that lacks this package, for any number of examples where the network
    does not fix it when it is traced; else for one, and the card says so."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    config = settings()
    source = problems.problem_of(config).seeds[-1] if source == "seed" else source
    run = run_of(tmp_path / "run", source, config)
    done = llmatic("export", run, "--candidate", "0", "--output", tmp_path / "net.py", "--onnx")
    assert done.exception is None, done.exception
    lines = program(tmp_path / "net.md").partition("examples.npy")[2].splitlines()[1:]
    load = "\n".join(line for line in lines if not line.startswith(("x =", "print(")))
    assert stranger(tmp_path, COMPARE.format(load=load, counts=counts)) == "alike\n"
    said = "one example at a time" if counts == (1,) else "any number N of examples"
    assert said in (tmp_path / "net.md").read_text()


@pytest.mark.slow
def test_a_network_that_onnx_cannot_say_keeps_its_weights(tmp_path: Path) -> None:
    """Its control flow goes by its numbers: weights and card are there, and the message says it."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    source = INITIAL.replace(
        "return self.fc1(x)", "return self.fc1(x) if float(x.sum()) > 0 else -self.fc1(x)"
    )
    run = run_of(tmp_path / "run", source)
    words = (run, "--candidate", "0", "--output", tmp_path / "net.py", "--onnx")
    assert "the network cannot be written as ONNX" in complaint(*words)
    assert (tmp_path / "net.safetensors").exists()
    assert "ONNX" not in (tmp_path / "net.md").read_text()
    assert not (tmp_path / "net.onnx").exists()
