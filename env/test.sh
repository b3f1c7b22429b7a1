#!/usr/bin/env bash
# Everything that a change must pass:
#   bash env/test.sh [pytest options]
# Makes or reuses .venv, installs the development extras, runs ruff, mypy, vulture and pytest, without
# options two files of tests at a time.
# Slow tests:  bash env/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
. env/common.sh

install_project dev

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy"
.venv/bin/mypy
say "vulture (what nothing in the package uses; a use in tests is none)"
.venv/bin/python -m vulture
say "pytest"
# One thread per process: the tests start many, and pools that fight are far slower.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
[ $# -gt 0 ] || set -- -n 2 --dist loadfile # two files at a time, and Slurm's one after the other
exec .venv/bin/python -m pytest "$@"
