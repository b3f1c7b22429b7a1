"""The plan of a study: all runs and their settings, and what is refused before any of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmatic_hpc import config
from llmatic_hpc.config.fields import settings_of
from llmatic_hpc.coordinator.study.plan import Planned, plan, read
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.rundir.paths import StudyPaths

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = CONFIGS / "studies"


def planned(folder: Path, text: str, *overrides: str, model: str = "") -> list[Planned]:
    """The runs of a study of this text, with a small configuration of its own beside it."""
    (folder / "base.toml").write_text('[generator]\nkind = "procedural"\n')
    file = folder / "study.toml"
    file.write_text(text)
    return plan(read(file), file, overrides, model)


def test_a_study_is_a_product(tmp_path: Path) -> None:
    """Variants, problems, writers, seeds; each run has a folder of its own."""
    runs = planned(
        tmp_path,
        """
config = "base.toml"
seeds = 2
[variants.one]
[variants.two]
search.batch = 7
[problems.small]
problem.train_images = 100
[problems.large]
[writers.control]
[writers.recorded]
generator = { kind = "replay", replay = "some.jsonl" }
""",
    )
    assert len(runs) == 2 * 2 * 2 * 2
    names = [(run.variant, run.problem, run.writer, run.seed) for run in runs]
    assert names[:3] == [
        ("one", "small", "control", 0), ("one", "small", "control", 1),
        ("one", "small", "recorded", 0),
    ]  # fmt: skip
    paths = StudyPaths(tmp_path / "out")
    folders = {paths.run(run.name, run.seed).root for run in runs}
    assert len(folders) == 16
    assert tmp_path / "out" / "two.large.recorded" / "seed1" in folders
    last = runs[-1].config
    assert (last.run.seed, last.search.batch, last.generator.kind) == (1, 7, "replay")
    assert last.problem.train_images == 0
    assert runs[0].config.problem.train_images == 100


def test_the_last_one_wins(tmp_path: Path) -> None:
    """Configuration, settings, problem, writer, variant, --set."""
    text = """
config = "base.toml"
seeds = [5]
[settings]
search = { batch = 1, generations = 1, oversample = 1, start_elites = 1, tournament = 1 }
[problems.p]
search = { generations = 2, oversample = 2, start_elites = 2, tournament = 2 }
[writers.w]
search = { oversample = 3, start_elites = 3, tournament = 3 }
[variants.v]
search = { start_elites = 4, tournament = 4 }
"""
    (run,) = planned(tmp_path, text, "search.tournament=5")
    found = run.config.search
    numbers = (
        found.batch, found.generations, found.oversample, found.start_elites, found.tournament,
    )  # fmt: skip
    assert numbers == (1, 2, 3, 4, 5)
    assert (run.name, run.seed, run.title) == ("v.p.w", 5, "v.p.w/seed5")


def test_a_variant_may_extend_another_file(tmp_path: Path) -> None:
    """In place of the study's own configuration, such as one with several writers."""
    (tmp_path / "writers.toml").write_text(
        '[[generator.writers]]\nname = "a"\nkind = "procedural"\n'
        '[[generator.writers]]\nname = "b"\nkind = "huggingface"\nmodel = "x"\n'
    )
    runs = planned(
        tmp_path,
        'config = "base.toml"\n[settings]\nsearch.batch = 3\n'
        '[variants.one]\n[variants.several]\nextends = "writers.toml"\n',
    )
    assert [len(run.config.generator.writers) for run in runs] == [0, 2]
    assert [run.config.search.batch for run in runs] == [3, 3]


def test_the_model_reaches_every_language_model(tmp_path: Path) -> None:
    """And nothing else; a file that exists is named in full, and --set wins."""
    model = tmp_path / "model.gguf"
    model.touch()
    text = """
config = "base.toml"
[variants.control]
[variants.model]
generator.kind = "huggingface"
[variants.several.generator]
kind = "huggingface"
writers = [{ name = "a", kind = "huggingface" }, { name = "b", kind = "procedural" }]
"""
    control, one, several = (
        run.config.generator for run in planned(tmp_path, text, model=f"{model}")
    )
    default = config.Config().generator.model
    assert (control.model, one.model, several.model) == (default, str(model), default)
    named = several.by_name()
    assert (named["a"].model, named["b"].model) == (str(model), default)
    *_, last = planned(tmp_path, text.partition("[variants.several")[0],
                       "generator.model=other", model="hub/name")  # fmt: skip
    assert last.config.generator.model == "other"


def test_paths_are_absolute_where_they_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the study; those of --set to where the command is given; names stay."""
    (tmp_path / "here").mkdir()
    (tmp_path / "cells.jsonl").touch()
    (tmp_path / "here" / "images.h5").touch()
    (tmp_path / "here" / "digits").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = 'config = "base.toml"\n[variants.v]\ngenerator.replay = "cells.jsonl"\n'
    (run,) = planned(tmp_path, text)
    assert run.config.generator.replay == str(tmp_path / "cells.jsonl")
    assert run.config.problem.data == "digits"
    (run,) = planned(tmp_path, text, "problem.data=images.h5")
    assert run.config.problem.data == str(tmp_path / "here" / "images.h5")


HEAD = 'config = "base.toml"\n'


@pytest.mark.parametrize(("text", "said"), [
    ("[variants.v]\n", "config must name the configuration"),
    (HEAD, "there are no variants"),
    (f"{HEAD}varaints = 1\n", "unknown setting varaints; did you mean variants"),
    (f'{HEAD}seeds = "three"\n', "seeds must be a whole number"),
    (f"{HEAD}seeds = 0\n[variants.v]\n", "seeds must be one or more"),
    (f"{HEAD}seeds = [1, 1]\n[variants.v]\n", "different numbers"),
    (f"{HEAD}seeds = [-1]\n[variants.v]\n", "seeds must be at least 0"),
    (f"{HEAD}at_once = 0\n[variants.v]\n", "at_once must be at least 1"),
    (f"{HEAD}variants = 3\n", "variants is a table"),
    (f"{HEAD}[variants]\nv = 3\n", "variants.v is a table of settings, got 3"),
    (f'{HEAD}[variants."a.b"]\n', "a name has up to 64 letters"),
    (f"{HEAD}[variants.report]\n", "is none of figures, report"),
    (f"{HEAD}[variants.v]\nextends = 3\n", "variants.v.extends: expected a file name"),
    (f'{HEAD}[variants.v]\n[problems.p]\nextends = "b"\n', "only a variant may say extends"),
    (f"{HEAD}[variants.v]\nrun.seed = 1\n", "variants.v.run.seed: the study says it itself"),
    (f'{HEAD}[settings]\nrun.directory = "x"\n[variants.v]\n', "itself (--output)"),
    (f"{HEAD}[variants.v]\nsearch.bacth = 1\n", "variant v: unknown setting search.bacth; did you"),
    (f"{HEAD}[variants.v]\nsearch.batch = 'x'\n", "variant v: search.batch must be a whole number"),
    (f"{HEAD}[settings]\nsearch = 1\n[variants.v]\n", "settings: search is a table of settings"),
    (f"{HEAD}[variants.v]\n[writers.w]\ngenerator.kind = 'replay'\n", "variant v, writer w: gener"),
    (f"{HEAD}[variants.v]\nextends = 'nose.toml'\n", "nose.toml: no such file"),
    (f"{HEAD}[variants.v]\nsearch.parents = 'curious'\n", "v: search.parents = 'curious' is"),
    ("config = ", "not valid TOML"),
])  # fmt: skip
def test_what_is_wrong_is_told_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    """The file, the table and the key; nothing was started by then, since nothing starts here."""
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, text)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_faulty_set_is_told_as_such(tmp_path: Path) -> None:
    """A setting that is not known, that fits no variant, or that is the study's own."""
    for wrong, said in (
        ("search.bacth=1", "--set: unknown setting search.bacth"),
        ("training.epochs=-1", "--set: training.epochs must be"),
        ("run.seed=1", "--set run.seed: a study says it itself (seeds)"),
        ("generator.kind=replay", "--set: generator.kind = 'replay' needs generator.replay"),
    ):
        with pytest.raises(ConfigError) as caught:
            planned(tmp_path, f"{HEAD}[variants.v]\n", wrong)
        assert str(caught.value).startswith(said)


def test_no_file_names_the_nearest() -> None:
    """As for a configuration."""
    with pytest.raises(ConfigError, match=r"smok\.toml: no such file; did you mean smoke\.toml\?"):
        read(STUDIES / "smok.toml")


# --- what is shipped ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "variants", "runs"), [
    ("smoke", 6, 18), ("paper_cifar10", 6, 60), ("paper_nasbench201", 5, 150),
    ("quick_cifar10", 10, 30), ("writers_nasbench201", 4, 40),
])  # fmt: skip
def test_shipped_studies(name: str, variants: int, runs: int) -> None:
    """Each is planned, with as many runs as it says."""
    file = STUDIES / f"{name}.toml"
    found = plan(read(file), file)
    assert len(found) == runs
    assert len({run.variant for run in found}) == variants
    assert len({str(run.config) for run in found}) == runs  # no two are the same


QUICK = (
    "search.generations=8", "search.batch=16", "generator.batch=16", "problem.data=/data/c.h5",
    "problem.train_images=1000", "problem.test_images=1000", "training.epochs=3",
    "containment.wall_seconds=300.0", "containment.max_flops=1e7", "cluster.kind=inline",
)  # fmt: skip
FILE = "/models/small.gguf"
SMALL = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
NO_FALLBACK = (f"generator.model={FILE}", 'generator.fallback=""')
WRITERS = (
    f"generator.writers=[{{name = 'chat', kind = 'huggingface', model = '{FILE}', form = 'chat'}},"
    f" {{name = 'text', kind = 'huggingface', model = '{FILE}', form = 'completion'}},"
    " {name = 'control', kind = 'procedural'}]"
)
MEANT = {
    "control": ("generator.kind=procedural",),
    "control-three": ("generator.kind=procedural", "search.oversample=3"),
    "random": ("generator.kind=procedural", "search.variant=random"),
    "evolution": (
        "generator.kind=procedural", "search.variant=regularized-evolution",
        "search.population=16", "search.tournament=4",
    ),
    "local-search": (
        "generator.kind=procedural", "search.variant=local-search", "search.first_improvement=true",
    ),
    "model": NO_FALLBACK,
    "model-random": (*NO_FALLBACK, "search.variant=random"),
    "informed": (
        *NO_FALLBACK, "generator.request=informed", "generator.resample=2", "search.targets=true",
    ),
    "writers": (
        "search.writers=thompson", "search.writers_prior=16", "search.place_cost=1", WRITERS,
        'generator.fallback=""', f"generator.model={SMALL}", "generator.request=informed",
        "generator.resample=2",
    ),
    "each": (
        "search.writers=each", "search.oversample=3", WRITERS, 'generator.fallback=""',
        f"generator.model={SMALL}", "generator.request=informed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", MEANT)
def test_quick_cifar10_is_the_quickstart_but_for_its_budget(variant: str) -> None:
    """Every setting of every variant, and the model that the environment names."""
    file = STUDIES / "quick_cifar10.toml"
    study = read(file)
    assert study.model_variable == "LLMATIC_MODEL"
    study = replace(study, variants={variant: study.variants[variant]})
    run, *_ = plan(study, file, ["problem.data=/data/c.h5"], FILE)
    expected = config.load(CONFIGS / "quickstart.toml", (*QUICK, *MEANT[variant]))
    for (name, _, one), (_, _, other) in zip(
        settings_of(expected), settings_of(run.config), strict=True
    ):
        assert one == other, name
