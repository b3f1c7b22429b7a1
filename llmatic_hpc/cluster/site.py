"""Site files: what is particular to one cluster, read by the same rules as a configuration.

``configs/sites/NAME.toml`` says which resources the coordinator's job and the arrays of
candidates ask for, and how to get at Python on a compute node. It changes where a run goes,
never what it searches, and so it is no part of a run's configuration.
``configs/sites/example.toml`` shows every key.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import accelerators
from ..config.fields import read_into, setting
from ..errors import ConfigError

WARNING_MINUTES = 10
"""slurm/launch.sh asks for its signal so long before the time limit."""

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")


@dataclass(frozen=True)
class Resources:
    """Resources of a job, in sbatch's own words; what is empty or 0 is left to the cluster."""

    partition: str = setting("", "sbatch --partition")
    account: str = setting("", "sbatch --account")
    qos: str = setting("", "sbatch --qos")
    gres: str = setting("", "sbatch --gres, for example gpu:1 or gpu:a100:1")
    gpus_per_task: str = setting(
        "", "sbatch --gpus-per-task, for clusters that want it in place of gres: 1, or a100:1"
    )
    constraint: str = setting("", "sbatch --constraint: features of the nodes")
    time: str = setting("", "sbatch --time: minutes, hours:minutes:seconds, days-hours, ...")
    cpus: int = setting(0, "sbatch --cpus-per-task", low=0)
    mem: str = setting("", "sbatch --mem, for example 32G")
    exclude: str = setting("", "sbatch --exclude: nodes to stay away from")
    extra: tuple[str, ...] = setting((), "further options of sbatch, each as --name=value")

    def parameters(self) -> dict[str, str | int | bool]:
        """Return long option names of sbatch without their dashes, and their values.

        An option without a value is True. ``extra`` comes last and wins. submitit takes this
        as its ``slurm_additional_parameters``.
        """
        named = {n: getattr(self, n) for n in Resources.__dataclass_fields__ if n != "extra"}
        names = {"cpus": "cpus-per-task", "gpus_per_task": "gpus-per-task"}
        # --gpus-per-task asks for a number of tasks.
        found: dict[str, str | int | bool] = {"ntasks": 1} if self.gpus_per_task else {}
        found |= {names.get(name, name): value for name, value in named.items() if value}
        for option in self.extra:
            name, equals, value = option.removeprefix("--").partition("=")
            found[name] = value if equals else True
        return found

    def options(self) -> list[str]:
        """Return :meth:`parameters` as words of a command line: ``--partition=gpu``."""
        return [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in self.parameters().items()
        ]


@dataclass(frozen=True)
class ArrayResources(Resources):
    """Resources of each element of a candidates' array, and how large an array may be."""

    max_array_size: int = setting(
        0, "elements of one array at most; 0: what the cluster says (MaxArraySize)", low=0
    )
    max_submit: int = setting(
        0, "elements waiting and running at most; 0: what the cluster says (MaxSubmitJobs)", low=0
    )


@dataclass(frozen=True)
class Environment:
    """Way to Python on a compute node."""

    python: str = setting(
        "", "Python with llmatic_hpc, as compute nodes see it; empty: the one that submits"
    )
    modules: tuple[str, ...] = setting((), "loaded first, by one 'module load'")
    variables: tuple[str, ...] = setting((), "NAME=VALUE, exported as they are written")
    setup: tuple[str, ...] = setting((), "shell lines, run last; one that fails ends the job")
    real_gpus: bool = setting(
        True, "false: the GPUs that Slurm names are none (a test bed), and the CPU is meant"
    )

    def lines(self) -> list[str]:
        """Return the shell lines that a job runs before Python."""
        lines = []
        if self.modules:
            # A shell that was not started by a login need not know 'module'.
            lines.append("command -v module >/dev/null || . /etc/profile || true")
            lines.append(f"module load {shlex.join(self.modules)}")
        for variable in self.variables:
            name, _, value = variable.partition("=")
            lines.append(f"export {name}={shlex.quote(value)}")
        if not self.real_gpus:
            lines.append(f"export {accelerators.NONE_TO_EXPECT}=1")
        return [*lines, *self.setup]


@dataclass(frozen=True)
class Site:
    """Settings of one cluster for one group of people."""

    coordinator: Resources = field(default_factory=Resources)
    serve: Resources = field(default_factory=Resources)
    array: ArrayResources = field(default_factory=ArrayResources)
    environment: Environment = field(default_factory=Environment)


def find_site(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Find the site file ``name``: a path, or a name in ``configs/sites`` or the user's folder.

    Raises :class:`ConfigError` that says where was looked and what is there.
    """
    if name.endswith(".toml") or os.sep in name:
        return Path(name)  # whether it is there, load_site says
    home = environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    folders = [Path("configs/sites"), Path(home) / "llmatic" / "sites"]
    for folder in folders:
        if (path := folder / f"{name}.toml").is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise ConfigError(
        f"--site {name}: no {name}.toml in {' or '.join(map(str, folders))}"
        + (f"; there are: {', '.join(known)}" if known else "")
        + ". Copy configs/sites/example.toml, or name a file by its path"
    )


def site_of_job(environ: Mapping[str, str] = os.environ) -> tuple[Site, Path | None]:
    """Read the site named by LLMATIC_SITE, as ``llmatic submit`` sets it; also return its file.

    Without it everything is left to the cluster. Raises :class:`ConfigError`.
    """
    name = environ.get("LLMATIC_SITE", "")
    if not name:
        return Site(), None
    path = find_site(name, environ)
    return load_site(path), path


def load_site(path: Path) -> Site:
    """Read the site that a file describes.

    Raises :class:`ConfigError`, one line that names file and key, as a configuration does.
    """
    site = read_into(Site(), path)
    for name in ("coordinator", "serve", "array"):
        resources: Resources = getattr(site, name)
        try:
            minutes(resources.time or "0")
        except ValueError:
            raise ConfigError(
                f"{path}: {name}.time must be a time as Slurm writes it, such as '90' (minutes), "
                f"'4:00:00' or '2-00:00:00', got {resources.time!r}"
            ) from None
        for option in resources.extra:
            if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", option):
                raise ConfigError(
                    f"{path}: {name}.extra: expected options in their long form, such as "
                    f"'--nodelist=node01' or '--exclusive', got {option!r}"
                )
    limit = site.coordinator.time
    warned = any(option.startswith("--signal") for option in site.coordinator.extra)
    if limit and not warned and minutes(limit) < 2 * WARNING_MINUTES:
        raise ConfigError(
            f"{path}: coordinator.time = {limit!r} is too short: the job is warned "
            f"{WARNING_MINUTES} minutes before its limit and would do nothing else; give it "
            "hours, or a later warning by extra = ['--signal=B:USR1@60']"
        )
    for variable in site.environment.variables:
        if not re.match(r"[A-Za-z_]\w*=", variable, re.ASCII):
            raise ConfigError(
                f"{path}: environment.variables: expected NAME=VALUE, got {variable!r}"
            )
    return site


def minutes(time: str) -> int:
    """Convert a time limit as Slurm writes it to whole minutes, rounded up.

    ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` or ``D-H:M:S`` (manual of sbatch, ``--time``).
    Raises :class:`ValueError` for anything else.
    """
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"no time as Slurm writes it: {time!r}")
    clock = [int(part) for part in match["clock"].split(":")]
    if match["days"] is not None:  # hours come first
        hours, mins, seconds = [*clock, 0, 0][:3]
        hours += 24 * int(match["days"])
    else:
        hours, mins, seconds = clock if len(clock) == 3 else [0, *clock, 0][:3]
    return hours * 60 + mins + -(-seconds // 60)
