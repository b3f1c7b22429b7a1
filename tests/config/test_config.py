"""Settings: every mistake is one line that names file, key, what is allowed, the nearest key."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from llmatic_hpc import config
from llmatic_hpc.config import Config
from llmatic_hpc.config import fields as settings
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.problems.images.kind import DESCRIPTORS, FURTHER

CONFIGS = Path(__file__).parents[2] / "configs"


def write(folder: Path, text: str, name: str = "a.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_round_trip() -> None:
    """Everything to_toml writes, load reads back to an equal configuration, odd texts included."""
    odd = replace(Config().problem, data='a "b"\\c\x7f\u2028ü', prompts=("x", "y"))
    before = replace(Config(), problem=odd)
    again = config.from_tables(tomllib.loads(settings.to_toml(before)), "text")
    assert again == before


def test_json_round_trip() -> None:
    """Tables as JSON holds them make an equal configuration."""
    assert config.from_tables(settings.to_tables(Config()), "tables") == Config()


def test_a_retired_value_is_read_and_begins_no_run() -> None:
    """Records and continued runs may hold it; a new run is told what to choose instead."""
    old = config.override(Config(), ["search.parents=curious"])
    assert config.from_tables(settings.to_tables(old), "run.h5") == old
    with pytest.raises(ConfigError, match=r"search\.parents = 'curious' is retired.*tournament"):
        config.refuse_retired(old)
    config.refuse_retired(Config())
    with pytest.raises(ConfigError, match=r"must be one of 'uniform', 'tournament', got 'mean'"):
        config.override(Config(), ["search.parents=mean"])


def test_a_retired_key_becomes_what_says_the_same_now() -> None:
    """Records, files and overrides may have it; what is written no longer does."""
    old = settings.to_tables(Config())
    for value, scale in ((False, ()), (True, ("linear", "log"))):
        old["archive"]["network"] = {"lower": [0.0, 1e4], "upper": [9.0, 1e9], "log_flops": value}
        read = config.from_tables(old, "run.h5")
        assert read.archive.network.scale == scale
        assert "log_flops" not in settings.to_toml(read)


def test_automatic_bounds_are_of_the_initial_network_and_the_limits() -> None:
    """One formula, whatever the axes; what is settled stays as it is."""
    asked = config.override(
        Config(),
        [
            "archive.network.axes=['params', 'depth', 'flops']",
            "archive.network.scale=['log', 'linear', 'log']",
            "archive.network.lower=auto", "archive.network.upper=auto",
            "containment.max_flops=1e6",
        ],
    )  # fmt: skip
    assert config.from_tables(tomllib.loads(settings.to_toml(asked)), "text") == asked
    with pytest.raises(ConfigError, match="settled by a run"):
        config.network_axes(asked.archive.network, FURTHER + DESCRIPTORS)
    done = config.settled(asked, {"params": 50, "depth": 4, "flops": 2000.0, "ratio": 1.0})
    assert done.archive.network.lower == (5.0, 0.4, 200.0)
    assert done.archive.network.upper == (50_000.0, 400.0, 1e6)
    assert done.archive.network.scale == ("log", "linear", "log")
    assert config.settled(done) == done


def test_one_axis_alone_may_have_an_automatic_bound() -> None:
    """The other keeps its number, and the text of a setting says which is which."""
    asked = config.override(
        Config(),
        ["archive.network.lower=[0.5, 'auto']", "archive.network.upper=['auto', 1e7]"],
    )
    assert config.from_tables(tomllib.loads(settings.to_toml(asked)), "text") == asked
    with pytest.raises(ConfigError, match="settled by a run"):
        config.network_axes(asked.archive.network, DESCRIPTORS)
    done = config.settled(asked, {"ratio": 3.0, "flops": 2000.0})
    assert done.archive.network.lower == (0.5, 200.0)
    assert done.archive.network.upper == (120.0, 1e7)


def test_what_is_measured_in_training_has_no_automatic_bound() -> None:
    """No initial network tells beforehand how long a batch takes on the device."""
    chosen = ["archive.network.axes=['milliseconds', 'params']"]
    assert config.override(Config(), chosen)
    with pytest.raises(ConfigError, match=r"milliseconds is measured where candidates train"):
        config.override(Config(), [*chosen, "archive.network.upper=['auto', 1e7]"])


def test_extends_and_overrides(tmp_path: Path) -> None:
    """A file wins over what it extends, and --set wins over both."""
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", "[search]\ngenerations = 3\nbatch = 7\n", "b.toml")
    child = write(tmp_path, 'extends = "base/b.toml"\n[search]\nbatch = 8\n')
    loaded = config.load(child, ["training.epochs=2", "generator.model=some/model"])
    assert (loaded.search.generations, loaded.search.batch) == (3, 8)
    assert loaded.training.epochs == 2
    assert loaded.generator.model == "some/model"


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """A data file beside its configuration is found from any working directory."""
    write(tmp_path, "", "images.npz")
    loaded = config.load(write(tmp_path, '[problem]\ndata = "images.npz"\n'))
    assert loaded.problem.data == str(tmp_path / "images.npz")


RUNGS = "[training]\nrungs = [[3, 'niche'], [9]]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[search]\ngeneration = 5\n", ["search.generation", "did you mean search.generations?"]),
        ("[serch]\n", ["serch", "did you mean search?"]),
        ("generations = 5\n", ["generations", "did you mean search.generations?"]),
        ("[search]\nepoch = 5\n", ["search.epoch", "did you mean training.epochs?"]),
        ("[search]\nepochs = 5\n", ["search.epochs", "did you mean training.epochs?"]),
        ("[search]\ngenerations = 'x'\n", ["search.generations", "a whole number", "'x'"]),
        ("[search]\ngenerations = true\n", ["search.generations", "a whole number", "True"]),
        ("[search]\ngenerations = 0\n", ["search.generations", "at least 1", "got 0"]),
        ("[search]\nmutation_probability = 1.5\n", ["at most 1.0", "1.5"]),
        ("[search]\nmutation_probability = nan\n", ["mutation_probability", "nan"]),
        ("[search]\ncrossover_neighbours = 2\n", ["must be a list"]),
        ("[search]\ncrossover_neighbours = []\n", ["must not be empty"]),
        ("[generator]\nkind = 'hugging'\n", ["one of", "did you mean huggingface?"]),
        ("[search]\nstart = 'seeds'\n[problem]\nkind = 'nasbench201'\n", ["with seeds", "has 0"]),
        ("[search]\nstart = 'seeds'\nstart_elites = 0\n", ["start phase", "start_elites"]),
        ("[search]\nstart = 'seeds'\nvariant = 'random'\n", ["start phase", "'random'"]),
        ("[search]\nstart = 'seeds'\nbatch = 3\n", ["search.batch", "has 6"]),
        ("[generator]\nkind = 'replay'\n", ["needs generator.replay"]),
        (
            "[search]\nvariant = 'local-search'\n",
            ["edits by number, without a model", "procedural"],
        ),
        (
            "[problem]\nkind = 'nasbench201'\ntable_epochs = 100\n",
            ["problem.table_epochs must be 12, 200 or", "100"],
        ),
        ("[archive.prompt]\nlower = []\nupper = []\n", ["archive.prompt.lower", "two numbers"]),
        ("[problem]\nkind = 'nasbench'\n", ["one of", "did you mean nasbench201?"]),
        ("[problem]\noptions = 3\n", ["problem.options", "a table"]),
        ("[problem]\ndataset = 'cifar'\n", ["problem.dataset", "cifar100", "imagenet16_120"]),
        ("[search]\nqueries = 5\n[cluster]\nquorum = 0.5\n", ["search.queries", "quorum"]),
        ("[search]\nbudget = 5\n[cluster]\nquorum = 0.5\n", ["search.budget", "quorum"]),
        ("[training]\nrungs = [[3], [50]]\n", ["training.rungs must be pairs", "[[3], [50]]"]),
        ("[training]\nrungs = [[3, 'best'], [50]]\n", ["pairs of epochs and 'niche'"]),
        ("[training]\nrungs = [[50]]\n", ["training.rungs must be pairs"]),
        ("[training]\nrungs = [['niche', 3], [50]]\n", ["training.rungs must be pairs"]),
        ("[training]\nrungs = [[5, 'niche'], [5]]\n", ["ever more epochs", "[5, 5]"]),
        ("[training]\nrungs = [[0, 'niche'], [5]]\n", ["ever more epochs, from 1"]),
        (
            f"{RUNGS}[archive.network]\naxes = ['params', 'milliseconds']\nlower = [1, 1]\n"
            "upper = [9, 9]\n",
            ["training.rungs", "milliseconds is measured afterwards"],
        ),
        ("[archive.network]\nupper = [inf, inf]\n", ["must be finite numbers"]),
        ("[archive.network]\nlower = [-inf, 'auto']\n", ["must be finite numbers"]),
        (
            "[search]\noversample = 2\n[archive.network]\naxes = ['params', 'milliseconds']\n"
            "lower = [1, 1]\nupper = [9, 9]\n",
            ["search.oversample", "measured afterwards"],
        ),
        (f"{RUNGS}[cluster]\nquorum = 0.5\n", ["training.rungs needs cluster.quorum = 1"]),
        (f"{RUNGS}[search]\ntrain_start = false\n", ["needs search.train_start = true"]),
        (
            f"{RUNGS}promotion = 'elites'\n".replace("[9]", "[9, 'niche'], [20]"),
            ["training.promotion = 'elites'", "[[3, 'niche'], [9, 'niche'], [20]]"],
        ),
        (f"{RUNGS}promotion = 'all'\n", ["training.promotion", "'halving'"]),
        (f"{RUNGS}[problem]\nkind = 'nasbench201'\n", ["problem.table_epochs = [12, 200]"]),
        ("[problem]\nkind = 'nasbench201'\ntable_epochs = [200, 12]\n", ["12, 200 or [12, 200]"]),
        ("[archive.network]\nlower = [1.0]\n", ["archive.network.lower", "2 numbers", "ratio"]),
        ("[archive.network]\nlower = [300.0, 2e8]\n", ["archive.network.upper", "exceed"]),
        ("[archive.network]\nlog_flops = true\nlower = [0.0, 0.0]\n", ["network.scale", "above 0"]),
        ("[archive.network]\nlower = 'automatic'\n", ["network.lower", "a list or 'auto'"]),
        ("[archive.network]\nscale = ['log']\n", ["network.scale", "2 words, for ratio, flops"]),
        ("[archive.network]\naxes = ['ratio']\n", ["network.axes", "two or more"]),
        ("[archive.network]\naxes = ['depth', 'depth']\n", ["network.axes", "different"]),
        ("[archive.network]\naxes = ['depth', 'flop']\n", ["no 'flop'", "did you mean flops?"]),
        ("search = 3\n", ["search", "table of settings"]),
        ("extends = 3\n", ["extends", "file name"]),
        ("extends = 'nowhere.toml'\n", ["nowhere.toml", "no such file", "extended by"]),
        ("extends = 'a.toml'\n", ["extends itself"]),
        ("[search\n", ["not valid TOML"]),
    ],
)
def test_mistakes(tmp_path: Path, text: str, words: list[str]) -> None:
    """Each mistake is one line that names the file and what is wrong."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "a.toml" in message
    for word in words:
        assert word in message


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    """A misspelt file name is answered with the nearest one."""
    write(tmp_path, "", "quickstart.toml")
    with pytest.raises(ConfigError, match=r"no such file; did you mean quickstart\.toml\?"):
        config.load(tmp_path / "quickstrat.toml")


def test_what_is_like_nothing_is_not_guessed(tmp_path: Path) -> None:
    """Neither a key of the same table nor a file that shares the ending alone."""
    with pytest.raises(ConfigError) as unknown:
        config.load(write(tmp_path, "[training]\npatience = 1\n"))
    assert "did you mean" not in str(unknown.value)
    write(tmp_path, "", "pyproject.toml")
    with pytest.raises(ConfigError) as missing:
        config.load(tmp_path / "nope.toml")
    assert "did you mean" not in str(missing.value)


def test_an_override_is_blamed_for_its_own_fault(tmp_path: Path) -> None:
    """A list of the wrong length by --set is no fault of the file, and the other way round."""
    with pytest.raises(ConfigError, match=r"^--set: archive\.network\.lower must have 2"):
        config.load(write(tmp_path, ""), ["archive.network.lower=[1.0]"])
    path = write(tmp_path, "[archive.network]\nlower = [1.0]\n")
    with pytest.raises(ConfigError, match=r"a\.toml: archive\.network\.lower must have 2"):
        config.load(path, ["search.batch=5"])


@pytest.mark.parametrize("text", ["search.generations", "=5", "a..b=1", ".a=1"])
def test_bad_overrides(text: str) -> None:
    """A --set that is no KEY=VALUE says so."""
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        settings.parse_override(text)


def test_changed_settings() -> None:
    """Settings of place and pace may change in a run; what the search does may not."""
    before = Config()
    later = replace(
        before,
        search=replace(before.search, generations=99),
        cluster=replace(before.cluster, kind="inline"),
    )
    assert settings.changed_settings(before, later) == []
    other = replace(later, training=replace(before.training, epochs=1))
    assert settings.changed_settings(before, other) == ["training.epochs (was 50, now 1)"]


OTHERS = ("sites", "studies")
RUNS = [p for p in sorted(CONFIGS.rglob("*.toml")) if p.parent.name not in OTHERS]


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.name)
def test_shipped_configurations_load(path: Path) -> None:
    """Every configuration of a run in configs/ is valid; sites and studies are other files."""
    config.load(path)


def test_the_papers_numbers() -> None:
    """configs/cifar10.toml says what the paper says, and each number says where."""
    path = CONFIGS / "cifar10.toml"
    loaded = config.load(path)
    assert (loaded.search.generations, loaded.search.batch) == (20, 100)
    assert loaded.search.mutation_probability == 0.7
    assert loaded.archive.network.upper == (200.0, 5e9)
    assert loaded.archive.prompt.upper == (16.0, 1.0)
    assert loaded.training.fitness_split == "test"
    assert loaded.generator.model == "Salesforce/codegen-6B-mono"
    numbers = [
        line for line in path.read_text().splitlines()
        if line.partition("=")[2].strip()[:1].isdigit()
    ]  # fmt: skip
    assert len(numbers) > 20
    assert [line for line in numbers if "#" not in line and line != "seed = 0"] == []


def test_every_setting_is_documented() -> None:
    """Each field has a help text, and what has a default has a kind that TOML knows."""

    def walk(value: object) -> None:
        assert is_dataclass(value)
        for f in fields(value):
            inner = getattr(value, f.name)
            if is_dataclass(inner):
                walk(inner)
            else:
                assert f.metadata["help"]
                assert isinstance(inner, str | int | float | bool | tuple | dict)

    walk(Config())
