"""The paper's variants as configurations: what each says, and what a run of it then does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config, store
from llmatic_hpc.config import changed_settings
from llmatic_hpc.config.search_settings import ABLATIONS
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.problems.nasbench201 import cells, evaluator, write
from llmatic_hpc.problems.nasbench201.reader import read
from llmatic_hpc.problems.nasbench201.table import Accuracies, BenchmarkTable
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record
from llmatic_hpc.store.fold import new_search
from llmatic_hpc.types import NO_PROMPT, Evaluation

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = {"ablations": "cifar10.toml", "ablations/quick": "smoke.toml"}
DIFFERS = {
    **{name: f'search.variant (was "llmatic", now "{name}")' for name in ABLATIONS},
    "equal-operators": "search.mutation_probability (was 0.7, now 0.5)",
    "more-crossover": "search.mutation_probability (was 0.7, now 0.3)",
}
GENERATIONS, BATCH, SEARCHES = 4, 10, 300
MADE_UP = (
    "problem.kind=nasbench201", "problem.table=made-up", "archive.samples=1000",
    "archive.network.lower=[]", "archive.network.upper=[]", "archive.network.cells=30",
)  # fmt: skip
WIDE = ("search.batch=2", "archive.network.lower=[1.0, 1.0]", "archive.network.upper=[1e3, 1e3]")


def settings_file(name: str) -> Path:
    """Configuration in small of a variant, or of what they are variants of."""
    return CONFIGS / ("smoke.toml" if name == "llmatic" else f"ablations/quick/{name}.toml")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", DIFFERS)
def test_a_variant_differs_from_its_base_in_one_setting(folder: str, name: str) -> None:
    """Each setting has the place beside it where the paper says it."""
    file = CONFIGS / folder / f"{name}.toml"
    base, own = config.load(CONFIGS / FOLDERS[folder]), config.load(file)
    assert changed_settings(base, own) == [DIFFERS[name]]
    settings = [line for line in file.read_text().splitlines() if " = " in line][1:]
    assert settings
    assert all("# 4.2" in line for line in settings)


def test_every_variant_of_the_paper_has_a_file() -> None:
    """Here and in small."""
    for folder in FOLDERS:
        assert {p.stem for p in (CONFIGS / folder).glob("*.toml")} == set(DIFFERS)


# --- behaviour: recorded completions, on a made-up table -----------------------------------------


CELLS = [cell for cell in cells.cells() if 0 not in cell][:: 4096 // (GENERATIONS * BATCH)]


def edges(text: str) -> tuple[str, ...]:
    """Lines of a cell's source that say what it is."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line.startswith("self.edge_"))


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of completions: different cells that can be trained."""
    file = tmp_path_factory.mktemp("completions") / "cells.jsonl"
    texts = [f"```python\n{write.source(cell)}```" for cell in CELLS]
    lines = [{"completion": text, "form": "chat"} for text in texts]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


@pytest.fixture(scope="module", autouse=True)
def table() -> object:
    """Accuracies that nobody measured, and cells that are known without being traced."""
    full = np.random.default_rng(3).uniform(40, 60, 15625).astype("f4")
    made = Accuracies(full, full, full, full, np.full(15625, 1000, "f4"))
    rows = {cells.architecture(cell): row for row, cell in enumerate(cells.cells())}
    whole = BenchmarkTable(Path("made-up"), "0" * 64, rows, dict.fromkeys(cells.DATASETS, made))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "load_table", lambda settings: whole)
        known = {edges(write.source(cell)): cell for cell in CELLS}
        patch.setattr(
            read, "cell_written", lambda text: known.get(edges(text), write.cell_written(text))
        )
        yield whole


@pytest.fixture(scope="module")
def records(completions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Records of runs of each variant, and of its base, on the same completions."""
    found = {}
    for name in ("llmatic", *ABLATIONS):
        settings = config.load(settings_file(name), (
            *MADE_UP, "generator.kind=replay", f"generator.replay={completions}",
            f"search.generations={GENERATIONS}", f"search.batch={BATCH}", "search.start_elites=2",
        ))  # fmt: skip
        folder = tmp_path_factory.mktemp("runs") / name
        run(settings, folder, observer=Silent())
        found[name] = store.load(RunPaths(folder).record)
    return found


def test_the_same_completions_give_other_searches(records: dict[str, Record]) -> None:
    """The sources are those of the file, in its order; the replay of each history agrees."""
    for record in records.values():
        assert record.committed_generations == GENERATIONS
        assert [str(found) for found in store.verify(record)] == []
    sources = {name: record.candidates["source"].tolist() for name, record in records.items()}
    assert all(one == sources["llmatic"] for one in sources.values())


def test_mutation_only_never_crosses_over_and_crossover_only_never_mutates(
    records: dict[str, Record],
) -> None:
    """The parents of a candidate show it, whatever its operator is called."""
    for name, expected in (("mutation-only", b"mutation"), ("crossover-only", b"crossover")):
        table = records[name].candidates
        later = table["generation"] > 0
        assert set(table["operator"][later].tolist()) == {expected}
        assert ((table["parents"][later, 1] >= 0) == (expected == b"crossover")).all()


def test_one_archive_alone(records: dict[str, Record]) -> None:
    """A population takes the place of the other, which stays empty."""
    filled = {
        name: {kind: int((one.elite >= 0).sum()) for kind, one in record.archives.items()}
        for name, record in records.items()
    }
    assert filled["llmatic"]["network"] > 2
    assert filled["llmatic"]["prompt"] > 2
    assert filled["network-archive"]["network"] > 2
    assert filled["network-archive"]["prompt"] == 0
    assert filled["prompt-archive"]["prompt"] > 2


def test_random_generation_has_one_parent_and_no_prompt(records: dict[str, Record]) -> None:
    """The initial network, which is no candidate, is the parent of every candidate."""
    table = records["random"].candidates
    assert (table["parents"] < 0).all()
    assert (table["prompt"] == NO_PROMPT).all()
    assert set(table["operator"].tolist()) == {b"random"}


@pytest.mark.parametrize(("name", "share"), [
    ("llmatic", 0.3), ("equal-operators", 0.5), ("more-crossover", 0.7), ("network-archive", 0.3),
    ("prompt-archive", 0.3), ("mutation-only", 0.0), ("crossover-only", 1.0),
])  # fmt: skip
def test_the_share_of_crossovers(name: str, share: float) -> None:
    """As the operators' probabilities say, within four standard deviations; none, or all."""
    found = []
    search = new_search(config.load(settings_file(name), (*MADE_UP, *WIDE)), 9)
    rng = np.random.default_rng(1)
    for _ in range(SEARCHES):
        asked = search.ask()
        found.append(asked[0].operator)
        search.tell([
            Evaluation(one.candidate, "scored", rng.random(), tuple(rng.uniform(1, 1000, 2)))
            for one in asked
        ])  # fmt: skip
    crossed = np.mean([one == "crossover" for one in found[5:]])
    assert abs(crossed - share) <= 4 * (share * (1 - share) / (SEARCHES - 5)) ** 0.5
