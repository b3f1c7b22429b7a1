"""Golden runs and verdicts: settings, sources, and what each needs."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from . import cells, networks

ROOT = Path(__file__).parents[2]
"""The tree that these golden runs belong to."""
HONEST = ROOT / "tests" / "honest" / "models"
PLACES = {"data": "LLMATIC_TEST_DATA", "model": "LLMATIC_TEST_MODEL"}
"""Variables that name what only some machines have, by the placeholder in settings."""

DATASETS = ("cifar10", "cifar100", "imagenet16_120")
PROTOCOLS = ("paper", "sound")


@dataclass(frozen=True)
class Golden:
    """Something to be done twice. ``{data}``, ``{model}`` and ``{work}`` in settings are filled
    in: real data, a real model, and the folder that :func:`prepare` filled."""

    name: str
    config: str
    settings: tuple[str, ...] = ()
    slow: bool = False

    def missing(self) -> str:
        """The variable that this machine does not set; empty: nothing is missing."""
        for place, variable in PLACES.items():
            if any(f"{{{place}}}" in text for text in self.settings):
                value = os.environ.get(variable, "")
                if not value or not Path(value).exists():
                    return variable
        return ""

    def options(self, work: Path) -> list[str]:
        """``--set`` and its like."""
        places = {place: os.environ.get(variable, "") for place, variable in PLACES.items()}
        filled = [text.format(work=work, **places) for text in self.settings]
        return [word for text in filled for word in ("--set", text)]


@dataclass(frozen=True)
class Run(Golden):
    """A run."""

    half: int = 0
    """Generations after which another tree takes it over; 0: it is too short for that."""

    @property
    def is_tabulated(self) -> bool:
        """True where scores come from the benchmark's table, and so are the same everywhere."""
        return "nasbench201" in self.config


@dataclass(frozen=True)
class Screening(Golden):
    """Verdicts over the files of a folder."""

    folder: str = ""
    """Relative to the prepared folder; absolute: where it is."""
    lenient: bool = False
    """The limit that a candidate meets depends on the machine's load."""


@dataclass(frozen=True)
class Writing(Golden):
    """Texts that a generator writes, mended and screened, without a run around it."""

    count: int = 1


SMALL = (
    "search.batch=8", "search.start_elites=2", "training.epochs=1", "problem.train_images=200",
    "problem.test_images=100", "cluster.poll_seconds=0.1",
)  # fmt: skip
OWN = (
    *SMALL, f"search.batch={len(networks.completions())}", "search.generations=1",
    "problem.train_images=60", "generator.kind=replay", "generator.replay={work}/networks.jsonl",
)  # fmt: skip
FIRST = ("search.generations=1", "training.epochs=0", "cluster.kind=inline")
"""Settings under which all that comes before any training is quick."""
RECORDED = (
    *SMALL, "search.batch=54", "search.generations=4", "problem.data={data}/cifar10.h5",
    "problem.train_images=50", "problem.test_images=50", "containment.max_flops=2e8",
    "archive.network.upper=[200.0, 1e8]",
    "generator.kind=replay", "generator.replay={work}/recorded.jsonl",
)  # fmt: skip
MODEL = (
    *SMALL, "search.batch=6", "search.generations=1", "problem.train_images=100",
    "generator.model={model}", "generator.max_new_tokens=120", "generator.threads=1",
    "generator.fallback=",
)  # fmt: skip
TABLE = ("problem.table={data}/nasbench201.h5",)
QUERIES = (*TABLE, "search.queries=300")
WRITTEN = (
    *TABLE, f"search.batch={len(cells.completions())}", "search.generations=1",
    "generator.kind=replay", "generator.replay={work}/cells.jsonl",
)  # fmt: skip
PAPER = (*TABLE, "search.generations=6", "search.batch=30")
LIMITS = (
    "containment.screen_seconds=3", "containment.memory_bytes=419430400",
    "containment.max_params=1000000", "containment.max_flops=1e8", "containment.max_layers=200",
)  # fmt: skip

BENCHMARK = "configs/nasbench201.toml"
OF_PAPER = "configs/nasbench201/paper.toml"
SMOKE = "configs/smoke.toml"

VARIED = {
    "network-archive": ("search.variant=network-archive", "search.population=20"),
    "prompt-archive": ("search.variant=prompt-archive", "search.population=20"),
    "mutation-only": ("search.variant=mutation-only",),
    "crossover-only": ("search.variant=crossover-only",),
    "log-flops": ("archive.network.log_flops=true",),
    "grids": ("archive.network.kind=grid", "archive.prompt.kind=grid"),
    "early": ("problem.table_epochs=12", "problem.protocol=sound"),
}
"""Settings that a search on the table shows at little cost. Retired ones, which begin no run, are
shown by the records in :mod:`.old`."""

RUNS: tuple[Run, ...] = (
    Run("smoke", SMOKE, (*SMALL, "search.generations=3"), half=1),
    Run("smoke-first", SMOKE, (*SMALL, "search.batch=20", *FIRST)),
    Run("smoke-test-split", SMOKE, (
        *SMALL, "search.generations=2", "search.variant=crossover-only", "run.seed=1",
        "training.fitness_split=test", "cluster.kind=inline")),
    Run("networks", SMOKE, OWN),
    Run("networks-unrepaired", SMOKE, (*OWN, "generator.repair=false", "training.epochs=0")),
    Run("recorded", SMOKE, RECORDED, slow=True, half=2),
    Run("model", "configs/quickstart.toml", MODEL, slow=True),
    *(
        Run(f"control-{dataset}-{protocol}", BENCHMARK,
            (*QUERIES, f"problem.dataset={dataset}", f"problem.protocol={protocol}"), half=60)
        for dataset, protocol in itertools.product(DATASETS, PROTOCOLS)
    ),
    Run("evolution", "configs/nasbench201/regularized-evolution.toml", QUERIES, half=150),
    Run("local-search", "configs/nasbench201/local-search.toml", QUERIES, half=150),
    Run("local-search-first", "configs/nasbench201/local-search.toml",
        (*QUERIES, "search.first_improvement=true", "problem.dataset=cifar100"), half=150),
    Run("random-search", "configs/nasbench201/random-search.toml",
        (*TABLE, "search.batch=50", "search.generations=6"), half=3),
    Run("paper", OF_PAPER, PAPER, half=3),
    *(Run(f"paper-{name}", OF_PAPER, (*PAPER, *more), half=3) for name, more in VARIED.items()),
    Run("cells", BENCHMARK, WRITTEN),
    Run("cells-unmended", BENCHMARK, (*WRITTEN, "generator.repair=false")),
)  # fmt: skip

SCREENINGS: tuple[Screening, ...] = (
    Screening("screen-honest", SMOKE, folder=str(HONEST)),
    Screening("screen-cells", BENCHMARK, TABLE, folder="cells"),
    Screening("screen-hostile", SMOKE, LIMITS, folder="hostile"),
    Screening("screen-hostile-child", SMOKE, LIMITS, folder="child", slow=True),
    Screening("screen-hostile-limits", SMOKE, LIMITS, folder="limits", slow=True, lenient=True),
)  # fmt: skip

REPLAYED = len(networks.completions())
WRITINGS: tuple[Writing, ...] = (
    Writing("write-networks", SMOKE, (
        "generator.kind=replay", "generator.replay={work}/networks.jsonl"), count=REPLAYED),
    Writing("write-control", SMOKE, count=30),
    Writing("write-cells", BENCHMARK, TABLE, count=30),
)  # fmt: skip

ALL: tuple[Golden, ...] = (*RUNS, *SCREENINGS, *WRITINGS)


def table() -> Path:
    """The benchmark's table."""
    return Path(os.environ[PLACES["data"]], "nasbench201.h5")


def prepare(work: Path) -> None:
    """Write what the runs read: completions for replays, and sources for the screen."""
    from ..hostile import candidates_generated
    from ..hostile.matrix import CANDIDATES

    _lines(work / "networks.jsonl", networks.completions())
    _lines(work / "cells.jsonl", cells.completions())
    data = os.environ.get(PLACES["data"], "")
    files = sorted(Path(data, "completions").glob("*.jsonl")) if data else []
    lines = [line for path in files for line in path.read_text().splitlines()]
    _lines(work / "recorded.jsonl", [line for line in lines if not _sets_twice(line)])
    for number, text in enumerate(cells.texts()):
        _source(work / "cells" / f"{number:02d}.py", text)
    # Those made by walking what torch has loaded differ between two processes.
    generated = {id(hostile) for hostile in candidates_generated.CANDIDATES}
    for hostile in (one for one in CANDIDATES if id(one) not in generated):
        # What the gate stops; what gets as far as the contained child; what meets a limit there.
        is_limited = re.search("too_slow|too_large", hostile.expect.get("measure", ""))
        folder = (
            "hostile" if "gate" in hostile.claims else "limits" if is_limited else "child"
        )  # fmt: skip
        _source(work / folder / f"{hostile.name.replace('/', '_')}.py", _harmless(hostile.source))


def _sets_twice(line: str) -> bool:
    """Return whether a completion makes two modules of one name: repair's word on the second hangs
    on whether it comes to lie in the memory of the first."""
    names = re.findall(r"self\.(\w+) = nn\.", line.partition("def forward")[0])
    return len(names) > len(set(names))


def _harmless(source: str) -> str:
    """A hostile source, aimed at nothing: no such folder, port or process."""
    aims = {
        "HOME": "/nonexistent/home", "TMP": "/nonexistent/tmp", "TOKEN": "token", "TCP": "1",
        "UDP": "1", "UNIX": "/nonexistent/socket", "VICTIM": "999999999", "JUDGE": "999999999",
    }  # fmt: skip
    for name, value in aims.items():
        source = source.replace(f"@{name}@", value)
    return source


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _source(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
