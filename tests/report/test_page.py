"""The page of a run: what is on it, and what a browser makes of it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from llmatic_hpc import store
from llmatic_hpc.commands.main import cli
from llmatic_hpc.report.methods import look
from llmatic_hpc.report.page import cells, page, texts
from llmatic_hpc.report.page.failures import reason
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from ..benchmarks.report import made
from ..store.conftest import made_up
from . import browser

ASSETS = Path(cells.__file__).parent / "assets"
HOSTILE = "</script><script>document.title='mine'</script><img src=x onerror=alert(1)>"


def data_of(text: str) -> Any:
    """Unpack what a page holds, as its reader does."""
    found = re.search(r'id="data">([A-Za-z0-9+/=]*)</script>', text)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def of(record: Record, name: str = "runs/one") -> Any:
    return data_of(page([look(Path(name), record, 0)]))


@pytest.fixture(scope="module")
def record() -> Record:
    return made(300)


@pytest.fixture(scope="module")
def data(record: Record) -> Any:
    return of(record)


def test_cells_are_those_of_the_nearest_centroid() -> None:
    """Areas fill the square, and random points lie in the polygon of their nearest centroid;
    so they do where centroids lie on the border."""
    rng = np.random.default_rng(0)
    for places in (rng.random((60, 2)), np.array([[0.0, 0.25], [0.0, 0.75], [1.0, 0.5]]),
                   np.array([[0.5, 0.5]])):  # fmt: skip
        shapes = cells.polygons(places)
        areas = [
            abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 for x, y in
            (shape.T for shape in shapes)
        ]  # fmt: skip
        assert sum(areas) == pytest.approx(1.0, abs=1e-4)
        points = rng.random((500, 2))
        nearest = np.square(points[:, None] - places).sum(axis=2).argmin(axis=1)
        for point, place in zip(points, nearest, strict=True):
            edges = np.roll(shapes[place], -1, axis=0) - shapes[place]
            to = point - shapes[place]
            assert (edges[:, 0] * to[:, 1] - edges[:, 1] * to[:, 0] > -1e-4).all()


def test_cells_of_more_axes_share_a_polygon() -> None:
    """The first two axes are shown; what differs in the third alone lies one on the other."""
    centroids = np.array([[0.2, 0.2, 0.1], [0.2, 0.2, 0.9], [0.8, 0.8, 0.1]])
    places, of_cell = cells.stacks(centroids)
    assert len(places) == 2
    assert of_cell[0] == of_cell[1] != of_cell[2]


def test_the_slider_ends_at_the_archives(record: Record, data: Any) -> None:
    """Every change in order leads to the elites and values that the archives have."""
    for name, archive in record.archives.items():
        elite, value = np.full(len(archive.elite), -1), np.full(len(archive.elite), np.nan)
        for _, cell, candidate, fitness in data["maps"][name]["events"]:
            elite[cell], value[cell] = candidate, fitness
        np.testing.assert_array_equal(elite, archive.elite)
        np.testing.assert_allclose(value, archive.fitness, rtol=1e-5)


def test_progress_ends_where_the_history_does(record: Record, data: Any) -> None:
    """Best, QD score and coverage, against each cost."""
    for spent in ("candidates", "hours", "wall"):
        curve = data["anytime"][0]["curves"][spent]
        last = {name: curve[name]["mean"][-1] for name in ("best", "qd_score", "coverage")}
        assert last["best"] == pytest.approx(np.nanmax(record.candidates["fitness"]), rel=1e-5)
        assert last["qd_score"] == pytest.approx(record.history["network_qd_score"][-1], rel=1e-5)
        assert last["coverage"] == pytest.approx(record.history["network_coverage"][-1])
    assert curve["x"][-1] == pytest.approx(
        (record.history["finished"] - record.history["started"]).sum() / 3600
    )


def test_seeds_make_a_band() -> None:
    """Runs of one method stand in one curve, from the least to the greatest."""
    runs = [look(Path(f"runs/{seed}"), made(200, seed), 0) for seed in (0, 1)]
    for seed, run in enumerate(runs):
        run.record.config["run"]["seed"] = seed
    (curve,) = data_of(page(runs))["anytime"]
    assert curve["seeds"] == [0, 1]
    best = curve["curves"]["candidates"]["best"]
    tops = sorted(float(np.nanmax(run.record.candidates["fitness"])) for run in runs)
    assert [best["low"][-1], best["high"][-1]] == pytest.approx(tops, rel=1e-5)
    assert best["mean"][-1] == pytest.approx(np.mean(tops), rel=1e-5)


def test_a_click_reaches_every_ancestor(record: Record, data: Any) -> None:
    """The sources of each elite that ever was up to the initial network are on the page."""
    table = record.candidates
    open_ = np.flatnonzero(table["network_added"] >= 1).tolist()
    while open_:
        row = open_.pop()
        assert data["texts"]["source"][str(row)] == table["source"][row]
        assert data["texts"]["train_curve"].get(str(row), []) or table["status"][row] != b"scored"
        open_ += [parent for parent in table["parents"][row].tolist() if parent >= 0]
    assert len(data["texts"]["source"]) < record.rows
    assert data["initial"].startswith("import torch")


def test_ancestors_need_not_have_been_elites() -> None:
    """As in variants whose parents are no elites: all are reached, and nobody else."""
    record = made(300)
    table = record.candidates
    table["network_added"][:] = table["prompt_added"][:] = 0
    for archive in record.archives.values():
        archive.elite[:] = -1
    wanted, open_ = {299}, [299]
    while open_:
        found = {parent for parent in table["parents"][open_.pop()].tolist() if parent >= 0}
        open_ += found - wanted
        wanted |= found
    assert len(wanted) > 2
    assert set(texts.reached(record, [299]).tolist()) == wanted


def test_text_of_a_model_is_data() -> None:
    """Nothing that it wrote stands in the page as it is, and no script makes HTML of text."""
    record = made(100)
    for name in ("source", "completion", "failure"):
        record.candidates[name][:] = HOSTILE
    text = page([look(Path(f"runs/{HOSTILE[:9]}"), record, 0)])
    assert "onerror" not in text
    assert text.count("<script") == 2
    assert data_of(text)["texts"]["completion"]["0"] == HOSTILE
    dangerous = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function"
        r"|https?://(?!www\.w3\.org)"
    )
    for file in ASSETS.glob("*.js"):
        assert not re.search(dangerous, file.read_text())
        assert len(file.read_text().splitlines()) <= 450
    assert "http" not in (ASSETS / "style.css").read_text()


def test_texts_are_cut_where_a_page_would_be_too_large(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the page says after how many characters."""
    monkeypatch.setattr(texts, "MOST_BYTES", 60_000)
    found = of(record)
    longest = max(map(len, found["texts"]["source"].values()))
    assert longest == found["longest_text"] < texts.LONGEST


def test_failures_are_counted_by_reason(record: Record, data: Any) -> None:
    """Numbers and names do not tell reasons apart."""
    assert reason("name 'x1' is not defined") == reason("name 'y' is not defined")
    failed = np.isin(record.candidates["status"], (b"invalid",)).sum()
    assert sum(group["count"] for group in data["failures"]) == failed
    assert len(data["failures"]) == 3


def test_of_what_is_lacking_the_page_says_so() -> None:
    """A run without generations, one going on, and one of which nothing has a score."""
    empty = of(made_up(0))
    assert empty["overview"]["best"] is None
    assert empty["anytime"][0]["curves"] == {}
    assert of(made_up(1, in_flight=True))["overview"]["in_flight"]
    record = made_up()
    record.candidates["train_curve"][:] = ""
    assert of(record)["timeline"] is None
    assert of(record)["verdict"]["sound"]


def llmatic(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


def test_the_command_writes_into_the_run(tmp_path: Path) -> None:
    """One file, by default in the run; an older record has a page, a file that is none a line."""
    run = tmp_path / "one"
    run.mkdir()
    store.commit(RunPaths(run), made_up())
    assert llmatic("report", run).exception is None
    assert [path.name for path in RunPaths(run).report.iterdir()] == ["index.html"]
    old = Path(__file__).parents[1] / "golden" / "records" / "old-smoke"
    assert llmatic("report", old, run, "--output", tmp_path / "out").exception is None
    assert data_of((tmp_path / "out" / "index.html").read_text())["verdict"]["sound"]
    (tmp_path / "run.h5").write_text("no record")
    assert "no record of a run" in str(llmatic("report", tmp_path).exception)
    (tmp_path / "file").touch()
    assert "cannot be written" in str(
        llmatic("report", run, "--output", tmp_path / "file" / "x").exception
    )


# --- in a browser -------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    browser.executable() is None, reason="no Chromium here: apt-get install chromium"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """A browser with the page of a run of which one network is hostile."""
    record = made(300)
    best = int(np.nanargmax(record.candidates["fitness"]))
    for name in ("source", "completion"):
        record.candidates[name][best] = HOSTILE
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(page([look(Path("runs/one"), record, 0)]))
    with browser.browser() as found:
        found.look(1280, 900)
        found.open(file.as_uri())
        yield found
        assert found.faults() == []
        assert {url.partition("#")[0] for url in found.fetched()} == {file.as_uri()}


@pytest.mark.slow
@needs_browser
def test_a_click_on_a_cell_shows_its_network(opened: browser.Browser) -> None:
    """Its source and its lineage, which ends at the initial network, with all texts of a step."""
    opened.run("document.querySelectorAll('figure[data-map=network] .filled')[5]"
               ".dispatchEvent(new MouseEvent('click', {bubbles: true}))")  # fmt: skip
    shown = opened.run("document.querySelector('#network').dataset.candidate")
    clicked = opened.run("document.querySelectorAll('figure[data-map=network] .filled')[5]"
                         ".dataset.candidate")  # fmt: skip
    assert shown == clicked
    assert opened.run("location.hash") == f"#candidate-{shown}"
    assert "class Net" in opened.run("document.querySelector('#network pre').textContent")
    assert opened.run("document.querySelectorAll('#network pre .keyword').length") > 5
    steps = opened.run("[...document.querySelectorAll('[data-step]')].map((s) => s.dataset.step)")
    assert steps[0] == shown
    assert steps[-1] == "-1"
    opened.run("document.querySelectorAll('[data-step]').forEach((s) => { s.open = true; })")
    opened.settle()
    text = opened.run("document.querySelector('.steps').textContent")
    for wanted in ("Difference to", "As it was written", "Repairs: 1", "Initial network"):
        assert wanted in text
    assert opened.run("document.querySelectorAll('.steps .added').length") > 0


@pytest.mark.slow
@needs_browser
def test_of_what_is_lacking_the_page_says_so_in_a_browser(tmp_path: Path) -> None:
    """No generation yet, one in flight, and nothing that has a score: a page without an error."""
    nothing = made_up(1)
    nothing.candidates["status"][:] = b"invalid"
    nothing.candidates["fitness"][:] = np.nan
    nothing.candidates["network_added"][:] = -1
    for name in ("network", "prompt"):
        nothing.archives[name].elite[:] = -1
        nothing.archives[name].fitness[:] = np.nan
    with browser.browser() as opened:
        opened.look(1280, 12000)
        for number, record in enumerate((made_up(0), made_up(1, in_flight=True), nothing)):
            file = tmp_path / f"{number}.html"
            file.write_text(page([look(Path("runs/one"), record, 0)]))
            opened.open(file.as_uri())
            opened.settle()
            said = opened.run("document.body.innerText")
            assert ("no candidate has a score yet" in said) == (number != 1)
            assert "Not at its end" in said
            assert opened.run("document.querySelectorAll('.plot svg').length") >= 2
        assert opened.faults() == []


@pytest.mark.slow
@needs_browser
def test_text_of_a_model_stays_text(opened: browser.Browser) -> None:
    """The best network is none but a script and an image that fails."""
    best = opened.run("document.querySelector('.tile span').textContent.match(/\\d+$/)[0]")
    address = opened.run("location.href").partition("#")[0]
    opened.call("Page.navigate", url="about:blank")
    opened.open(f"{address}#candidate-{best}")
    assert HOSTILE in opened.run("document.querySelector('#network').textContent")
    assert opened.run("document.title") != "mine"
    assert opened.run("document.images.length") == 0


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_every_screen(opened: browser.Browser, scheme: str, width: int) -> None:
    """Nothing is wider than a phone; text and ground differ in both colour schemes."""
    opened.look(width, 12000, scheme)  # so tall that all is drawn
    opened.settle()
    assert opened.run("document.documentElement.scrollWidth") <= width
    beyond = opened.run(
        "[...document.querySelectorAll('svg text')].filter((t) => { const b ="
        " t.getBoundingClientRect();"
        " return b.width && (b.left < -0.5 || b.right > innerWidth + 0.5); })"
        ".map((t) => t.textContent)"
    )
    assert beyond == []
    assert opened.run("Math.min(...[...document.querySelectorAll('dd')]"
                      ".map((one) => one.offsetWidth).filter(Boolean))") > 100  # fmt: skip
    ground, ink = (
        [int(n) for n in re.findall(r"\d+", opened.run(f"getComputedStyle(document.body).{name}"))]
        for name in ("backgroundColor", "color")
    )
    assert abs(sum(ground) - sum(ink)) > 450
    assert (sum(ground) < 200) == (scheme == "dark")


@pytest.mark.slow
@needs_browser
def test_the_keyboard_and_the_slider_do_all_of_it(opened: browser.Browser) -> None:
    """Arrows and Enter show a network; the slider goes back to when cells were empty."""
    opened.look(1280, 900)
    opened.settle()
    filled = "document.querySelectorAll('figure[data-map=network] .filled').length"
    now = opened.run(filled)
    opened.run("document.querySelector('#generation').focus()")
    opened.run("(() => { const s = document.querySelector('#generation'); s.value = 0;"
               " s.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert 0 < opened.run(filled) < now
    opened.run("document.querySelector('figure[data-map=network] svg').focus()")
    before = opened.run("document.querySelector('#network').dataset.candidate")
    for _ in range(12):
        for key in ("ArrowRight", "ArrowUp", "Enter"):
            for kind in ("keyDown", "keyUp"):
                opened.call("Input.dispatchKeyEvent", type=kind, key=key)
        opened.run("document.querySelector('figure[data-map=network] svg').focus()")
    assert opened.run("document.querySelector('#network').dataset.candidate") != before
