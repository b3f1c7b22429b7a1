#!/usr/bin/env bash
# Install the project and search networks on real images, in one command:
#   bash env/quickstart.sh
# Makes .venv, installs, runs configs/quickstart.toml into runs/quickstart, and says what to
# try next. A second start does not reinstall and continues the same run.
set -euo pipefail
cd "$(dirname "$0")/.."
. env/common.sh

install_project quickstart,gguf

config=configs/quickstart.toml
run=${LLMATIC_RUN:-runs/quickstart}
model=()
if [ -n "${LLMATIC_MODEL:-}" ]; then
    say "the model is $LLMATIC_MODEL (LLMATIC_MODEL)"
    model=(--set "generator.model=$LLMATIC_MODEL")
fi
say "searching: llmatic run $config --run-dir $run (some minutes on two cores)"
.venv/bin/llmatic run "$config" --run-dir "$run" "${model[@]}"
.venv/bin/llmatic verify "$run"
[ -t 1 ] || .venv/bin/llmatic status "$run" --map    # on a terminal the run drew its map itself

say "done. The record is $run/run.h5. Look at it, and take the best network with you:"
cat <<EOF
  . .venv/bin/activate
  llmatic status $run --map
  llmatic export $run --best --output best.py
  llmatic run $config --run-dir $run ${model[*]:+${model[*]} }--generations 6    # search on
EOF
