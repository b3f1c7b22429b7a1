#!/usr/bin/env bash
# All methods on NAS-Bench-201, over seeds, data sets and protocols; then both tables.
#
#   analysis/reproduce_nasbench201.sh TABLE.h5
#
# TABLE.h5 is the benchmark's table (llmatic prefetch makes it). The same line again continues
# what was stopped. From the environment:
#
#   METHODS    names of configs/nasbench201/*.toml; llmatic is configs/nasbench201.toml
#   SEEDS      how many; from 0                              (10)
#   DATASETS   cifar10, cifar100, imagenet16_120             (all)
#   PROTOCOLS  paper, sound                                  (both)
#   QUERIES    of each run; empty: what the configuration says
#   JOBS       runs at a time                                (2)
#   RUNS       where they go                                 (runs/nasbench201-all)
#   LLMATIC    the command                                   (llmatic)
#   PYTHON     what has h5py and numpy                       (python3)
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
[ -f "$1" ] || { echo "$1: no such table" >&2; exit 1; }

TABLE=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CONFIGS=$(dirname "$here")/configs
METHODS=${METHODS:-llmatic random-search regularized-evolution local-search}
SEEDS=${SEEDS:-10}
DATASETS=${DATASETS:-cifar10 cifar100 imagenet16_120}
PROTOCOLS=${PROTOCOLS:-paper sound}
QUERIES=${QUERIES:-}
RUNS=${RUNS:-runs/nasbench201-all}
LLMATIC=${LLMATIC:-llmatic}
PYTHON=${PYTHON:-python3}
export TABLE CONFIGS QUERIES RUNS LLMATIC
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# shellcheck disable=SC2329  # xargs calls it
one() {
    local method=$1 protocol=$2 dataset=$3 seed=$4
    local name=$method-$protocol-$dataset-seed$seed
    local config=$CONFIGS/nasbench201/$method.toml
    [ "$method" = llmatic ] && config=$CONFIGS/nasbench201.toml
    # shellcheck disable=SC2086  # LLMATIC may be several words, such as python -m llmatic_hpc
    if $LLMATIC run "$config" --run-dir "$RUNS/$name" --seed "$seed" \
            --set "problem.table=$TABLE" --set "problem.protocol=$protocol" \
            --set "problem.dataset=$dataset" ${QUERIES:+--set "search.queries=$QUERIES"} \
            >"$RUNS/$name.log" 2>&1 &&
        $LLMATIC verify "$RUNS/$name" --table "$TABLE" >>"$RUNS/$name.log" 2>&1
    then
        echo "verified $name"
    else
        echo "FAILED   $name: see $RUNS/$name.log" >&2
        return 1
    fi
}
export -f one

mkdir -p "$RUNS"
failed=0
for seed in $(seq 0 $((SEEDS - 1))); do
    for method in $METHODS; do
        for protocol in $PROTOCOLS; do
            for dataset in $DATASETS; do
                echo "$method $protocol $dataset $seed"
            done
        done
    done
done | xargs -P "${JOBS:-2}" -L 1 bash -c 'one "$@"' one || failed=1

"$PYTHON" "$here/table1.py" "$RUNS/*"
echo
"$PYTHON" "$here/table2.py" "$RUNS/*"
echo
echo "wall-clock time: $((SECONDS / 60)) min $((SECONDS % 60)) s"
exit "$failed"
