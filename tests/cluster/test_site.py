"""Site files: read by the rules of a configuration, rendered into sbatch's own options."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc.cluster.launch import array_of
from llmatic_hpc.cluster.site import (
    ArrayResources,
    Environment,
    Resources,
    Site,
    find_site,
    load_site,
    minutes,
)
from llmatic_hpc.config import ClusterSettings
from llmatic_hpc.config.fields import every_key
from llmatic_hpc.errors import ConfigError

SITES = Path(__file__).parents[2] / "configs" / "sites"


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(SITES.glob("*.toml")), ids=lambda p: p.name)
def test_shipped_sites_load(path: Path) -> None:
    """Every site file in configs/sites is valid."""
    load_site(path)


def test_the_example_has_every_key() -> None:
    """configs/sites/example.toml shows each key there is, and comments on it."""

    def keys(table: Mapping[str, Any], prefix: str = "") -> list[str]:
        return [
            key
            for name, value in table.items()
            for key in (keys(value, f"{name}.") if isinstance(value, dict) else [prefix + name])
        ]

    assert sorted(keys(tomllib.loads((SITES / "example.toml").read_text()))) == sorted(
        every_key(Site)
    )


def test_options() -> None:
    """A setting becomes an option, an empty one is left to the cluster, and extra options win."""
    resources = Resources(
        partition="gpu", cpus=4, time="1:00:00", extra=("--exclusive", "--time=2:00:00")
    )
    assert resources.options() == [
        "--partition=gpu",
        "--time=2:00:00",
        "--cpus-per-task=4",
        "--exclusive",
    ]
    assert resources.parameters()["exclusive"] is True
    assert Resources().options() == []


def test_environment_lines_do_what_they_say(tmp_path: Path) -> None:
    """Run by a shell, variables arrive as written, and set-up lines come after them."""
    odd = "a \"b\" $HOME 'c' ;"
    environment = Environment(variables=(f"ODD={odd}", "EMPTY="), setup=('THEN="$ODD!"',))
    script = "\n".join([*environment.lines(), 'printf "%s|%s|%s" "$ODD" "$EMPTY" "$THEN"'])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{odd}||{odd}!"


def test_gpus_in_either_way_of_asking() -> None:
    """--gpus-per-task wants to know the number of tasks; a run's own gres takes its place."""
    site = Site(array=ArrayResources(gpus_per_task="a100:1", gres=""))
    assert site.array.options() == ["--ntasks=1", "--gpus-per-task=a100:1"]
    assert Resources(gres="gpu:2").options() == ["--gres=gpu:2"]
    own = array_of(ClusterSettings(gres="gpu:1"), site).resources
    assert own.options() == ["--gres=gpu:1"]


def test_gpus_that_are_none() -> None:
    """Jobs of such a site, the test bed's among them, are told to expect no accelerator."""
    assert Environment(real_gpus=False).lines() == ["export LLMATIC_NO_ACCELERATOR=1"]
    assert not load_site(SITES / "testbed.toml").environment.real_gpus
    assert Environment().lines() == []


def test_modules_are_loaded_by_one_command_before_all_else() -> None:
    """The 'module' that the site's shell knows gets every name at once."""
    environment = Environment(modules=("cuda/12.4", "python/3.11"), variables=("A=b",))
    fake = 'module() { printf "<%s>" "$@"; }'
    script = "\n".join([fake, *environment.lines()])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "<load><cuda/12.4><python/3.11>"
    assert environment.lines()[-1] == "export A=b"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 90), ("1:30", 2), ("4:00:00", 240), ("4:00:01", 241),
        ("1-0", 1440), ("2-12:30", 3630), ("2-00:00:00", 2880),
    ],
)  # fmt: skip
def test_minutes(time: str, expected: int) -> None:
    """Each of the six forms in sbatch's manual, rounded up to minutes."""
    assert minutes(time) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[coordinator]\npartion = 'gpu'\n", ["did you mean coordinator.partition?"]),
        ("[arrays]\n", ["arrays", "did you mean array?"]),
        ("[environment]\ngres = 'gpu:1'\n", ["environment.gres", "did you mean coordinator.gres"]),
        ("[coordinator]\ncpus = 'four'\n", ["coordinator.cpus", "a whole number"]),
        ("[coordinator]\ncpus = -1\n", ["coordinator.cpus", "at least 0"]),
        ("[coordinator]\ntime = 60\n", ["coordinator.time", "a text"]),
        ("[array]\ntime = 'an hour'\n", ["array.time", "'an hour'", "4:00:00"]),
        ("[coordinator]\ntime = '15:00'\n", ["coordinator.time", "too short", "10 minutes"]),
        ("[array]\nextra = ['-w node1']\n", ["array.extra", "long form", "-w node1"]),
        ("[environment]\nvariables = ['HF_HOME /x']\n", ["NAME=VALUE", "HF_HOME /x"]),
        ("[environment]\nvariables = ['A-B=1']\n", ["NAME=VALUE", "A-B=1"]),
        ("[environment]\nmodules = 'cuda'\n", ["environment.modules", "a list"]),
        ("[coordinator\n", ["not valid TOML"]),
    ],
)
def test_mistakes(tmp_path: Path, text: str, words: list[str]) -> None:
    """Each mistake is one line that names the file, the key and what is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_site(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert "site.toml" in message
    for word in words:
        assert word in message


def test_a_short_limit_is_fine_with_a_late_warning(tmp_path: Path) -> None:
    """A site that sets the warning may set a limit of minutes."""
    text = "[coordinator]\ntime = '5'\nextra = ['--signal=B:USR1@60']\n"
    assert load_site(write(tmp_path, text)).coordinator.time == "5"


def test_find_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up here, then in the user's folder; a path is taken as it is."""
    monkeypatch.chdir(tmp_path)
    here, own = tmp_path / "configs" / "sites", tmp_path / "home" / "llmatic" / "sites"
    for folder, name in ((here, "a"), (own, "a"), (own, "b")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.toml").touch()
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert find_site("a", environ).resolve() == here / "a.toml"
    assert find_site("b", environ) == own / "b.toml"
    assert find_site("./c.toml", environ) == Path("c.toml")
    with pytest.raises(ConfigError, match=r"--site c: no c\.toml in .*there are: a, b\. Copy"):
        find_site("c", environ)
