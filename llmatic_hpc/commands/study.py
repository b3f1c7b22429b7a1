"""The command that runs a study. Thin, see :mod:`.main`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Interrupted, LLMaticError, RunLockedError
from ..rundir import lock
from ..rundir.paths import StudyPaths
from .options import PATH, json_option, print_json, set_option, usage_of_set
from .process import interrupted_by_signals, stop_on_signals

if TYPE_CHECKING:
    from ..coordinator.study.standing import Standing


@click.command()
@click.argument("file", metavar="STUDY", type=PATH)
@click.option("--output", type=PATH, metavar="DIR", help="Default: studies/<the file's name>.")
@click.option("--at-once", type=click.IntRange(1), metavar="N",
              help="Runs at once, in place of the study's at_once.")  # fmt: skip
@click.option("--submit", "as_jobs", is_flag=True, help="Submit each run as a Slurm job.")
@click.option("--site", metavar="NAME", envvar="LLMATIC_SITE",
              help="With --submit: configs/sites/NAME.toml, or a path.")  # fmt: skip
@click.option("--serve", "with_server", is_flag=True,
              help="Load the language model once, for all runs.")  # fmt: skip
@set_option
@json_option
def study(
    file: Path,
    output: Path | None,
    at_once: int | None,
    as_jobs: bool,
    site: str | None,
    with_server: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a study: variants over seeds, and their comparison.

    The same line again continues it: finished runs are not repeated. 1: a run failed; the others
    went on, and the same line tries it again.
    """
    from ..coordinator.study import plan, results, running, serving, standing

    with usage_of_set():
        wanted = plan.read(file)
        runs = plan.plan(wanted, file, overrides, plan.model_of(wanted, os.environ))
    paths = StudyPaths(output or Path("studies") / file.stem)
    server = None
    number = at_once or wanted.at_once
    if with_server:
        runs, server = serving.served(runs, paths, at_once=number)
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        with lock.hold(paths.lock):
            found = standing.standings(runs, paths)
            standing.refuse_others(found)
            if server:
                running.write_config(paths.server_config, server)
            if as_jobs and _submitted(found, paths, number, site):
                return
            found, asked_to_stop = _run(found, paths, number)
            text = ""
            if not asked_to_stop:
                with interrupted_by_signals("interrupted; the same command writes the results"):
                    text = results.write(found, paths, _tell)
    except RunLockedError:
        who = lock.describe(lock.holder(paths.lock))
        raise LLMaticError(
            f"{paths.root}: another 'llmatic study' is at work there: {who}. Follow it with "
            f"'llmatic runs {paths.root}', or choose another --output"
        ) from None
    except OSError as error:
        where = error.filename or paths.root
        raise LLMaticError(
            f"{where}: {error.strerror}. Every run is saved; when that is mended, the same command "
            "continues them"
        ) from error
    if as_json:
        for one in found:
            print_json(one.row)
    else:
        click.echo(text, nl=False)
    if asked_to_stop:
        raise asked_to_stop
    failed = [one for one in found if one.state == standing.FAILED]
    if failed:
        named = "\n".join(f"  {one.run.title}: {one.reason}" for one in failed)
        raise LLMaticError(
            f"{len(failed)} of {len(found)} runs failed; the same command tries them again:\n"
            f"{named}"
        )
    if any(one.state != standing.FINISHED for one in found):
        raise Interrupted("not all runs are finished; the same command continues them")


def _run(
    found: list[Standing], paths: StudyPaths, at_once: int
) -> tuple[list[Standing], Interrupted | None]:
    """Run what is not finished; return all runs as they are then, and why it ended early if so."""
    from ..coordinator.study import progress, running, serving, standing

    found = standing.released(found)
    due = standing.due(found)
    if not due:
        return found, None
    at_once = min(at_once, len(due))
    jobs = []
    for one in due:
        file = paths.config(one.run.name, one.run.seed)
        running.write_config(file, running.shared(one.run.config, at_once))
        jobs.append(running.Job(one.paths, file))
    _tell(
        f"{paths.root}: {len(found) - len(due)} of {len(found)} runs are finished; {at_once} at a "
        "time"
    )
    asked_to_stop = None
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        ticks = []
        if any(serving.uses(one.run.config, paths) for one in due):
            server = serving.Server(paths, stop, _tell)
            stack.enter_context(server.running())
            ticks.append(server.look)
        board = stack.enter_context(progress.board(found))
        ticks.append(board.tick)
        runner = running.Runner(
            at_once, stop, started=lambda job: board.started(job.paths),
            ended=lambda job, code, why: board.ended(job.paths, code, why),
            tick=lambda: [tick() for tick in ticks],
        )  # fmt: skip
        try:
            runner.run(jobs)
        except Interrupted as error:
            asked_to_stop = error
    return list(board.found.values()), asked_to_stop


def _submitted(found: list[Standing], paths: StudyPaths, at_once: int, site: str | None) -> bool:
    """Submit what is not finished; False where all is."""
    from ..cluster.site import Site, find_site, load_site
    from ..coordinator.study import serving, standing, submitting

    if all(one.state == standing.FINISHED for one in found):
        return False
    site_file = find_site(site) if site else None
    place, server = load_site(site_file) if site_file else Site(), ""
    if any(serving.uses(one.run.config, paths) for one in standing.due(found)):
        server = submitting.submit_server(paths, place, site_file)
        _tell(f"their model is served by job {server}; when all have ended: scancel {server}")
    new, known = submitting.submit(
        found, paths, at_once=at_once, site=place, site_file=site_file, tell=_tell, server=server
    )
    _tell(
        f"{new} jobs submitted, {known} were queued or running; at most {at_once} run at once. "
        f"Follow them with 'llmatic runs {paths.root}'; when they have ended, the same command "
        "without --submit writes the comparison"
    )
    return True


def _tell(text: str) -> None:
    click.echo(text, err=True)


COMMANDS = (study,)
