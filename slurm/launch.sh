#!/bin/bash
# The coordinator of a run, as a Slurm job that survives its own time limit:
#
#   sbatch [options of sbatch] slurm/launch.sh CONFIG RUN [options of llmatic run]
#
# Never edit this file for a site. Partition, account, time and the like are options of sbatch,
# or its variables (SBATCH_PARTITION, SBATCH_ACCOUNT, ...); 'llmatic submit CONFIG RUN --site NAME'
# takes all of it from configs/sites/NAME.toml. What the job itself looks at:
#
#   LLMATIC_PYTHON        Python with llmatic_hpc; else .venv/bin/python where sbatch was called,
#                         else python3
#   LLMATIC_SETUP         shell lines to run first: module load ..., . /path/to/activate, export ...
#   LLMATIC_MAX_RESTARTS  how often the job may requeue itself (50)
#   LLMATIC_SERVE         a file's name: the job is 'llmatic serve CONFIG --file RUN/FILE' in place of the
#                         coordinator (llmatic submit --serve), with options of that after RUN
#   LLMATIC_SERVER_JOB    the job of such a server, which ends with the run
#   HF_HUB_OFFLINE        0 lets the job download; the default is 1, because compute nodes seldom can
#                         and wait long before they say so ('llmatic prefetch CONFIG' fetches beforehand)
#   OMP_NUM_THREADS       default: the CPUs that the job was given
#
# Signals. USR1 comes ten minutes before the time limit: the coordinator saves, ends with code 75,
# and the job requeues itself. TERM comes from who ends the job (scancel, scontrol requeue, a
# preemption, the limit itself): the coordinator saves, too, but a cancelled job stays cancelled.
#
# Exit codes: 0 the run is done, or another job continues it (cluster.chain). 75 stopped with
# everything saved: the job requeues itself, or says why not; the same sbatch line continues the
# run. 2 usage. Anything else is the coordinator's own.
#
# One name, one job at a time (singleton): so a run never has two coordinators. Two runs side by
# side need two names: sbatch --job-name=... (llmatic submit names each run's job by itself).

#SBATCH --job-name=llmatic
#SBATCH --dependency=singleton
#SBATCH --output=llmatic-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
#SBATCH --nodes=1
#SBATCH --ntasks=1

# No -e: exit codes are what this script is about. -u comes after LLMATIC_SETUP, whose module and
# activate scripts are often not up to it.
set -o pipefail

say() { printf 'launch.sh: %s\n' "$*"; }
die() { # code message
    say "$2" >&2
    exit "$1"
}

# --- signals, before anything can send one ---------------------------------------------------

child='' received='' warned_after=''
# shellcheck disable=SC2317,SC2329 # the traps call it
forward() { # signal
    received=$1
    say "$(date '+%F %T') signal $1"
    [[ -z $child ]] || kill -s "$1" "$child" 2>/dev/null
}
trap 'warned_after=$SECONDS; forward USR1' USR1
trap 'forward TERM' TERM

# --- what to run, and with what --------------------------------------------------------------

usage="usage: sbatch [options of sbatch] slurm/launch.sh CONFIG RUN [options of llmatic run]"
(( $# >= 2 )) || die 2 "$usage"
config=$1 run=$2
shift 2

if [[ -n ${LLMATIC_SETUP:-} ]]; then
    trap 'die 1 "LLMATIC_SETUP failed on $(hostname -s) at: $BASH_COMMAND"' ERR
    eval "$LLMATIC_SETUP"
    trap - ERR
fi
set -u

job=${SLURM_JOB_ID:-}
restarts=${SLURM_RESTART_COUNT:-0}
max_restarts=${LLMATIC_MAX_RESTARTS:-50}
[[ $max_restarts =~ ^[0-9]+$ ]] ||
    die 2 "LLMATIC_MAX_RESTARTS must be a whole number, got '$max_restarts'"

# Slurm runs a copy of this script: its own place says nothing about the checkout.
submitted_from=${SLURM_SUBMIT_DIR:-$PWD}
if [[ -n ${LLMATIC_PYTHON:-} ]]; then
    python=$LLMATIC_PYTHON
elif [[ -x $submitted_from/.venv/bin/python ]]; then
    python=$submitted_from/.venv/bin/python
else
    python=python3
fi
version=$("$python" -c 'import llmatic_hpc; print(llmatic_hpc.__version__)' 2>&1) ||
    die 1 "llmatic_hpc cannot be imported on $(hostname -s) by $python: ${version##*$'\n'}. Call \
sbatch where .venv lies (bash env/quickstart.sh makes one), load what is missing with LLMATIC_SETUP, \
or name another Python, visible from the compute nodes: LLMATIC_PYTHON=/path/to/python sbatch ..."

export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
export TRANSFORMERS_OFFLINE=${TRANSFORMERS_OFFLINE:-$HF_HUB_OFFLINE}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}}
export PYTHONUNBUFFERED=1 # the log ends where the job ended

say "$(date '+%F %T') on $(hostname -s), job ${job:-none}, restart $restarts of at most $max_restarts"
say "llmatic $version, $(command -v "$python"), $OMP_NUM_THREADS threads, HF_HUB_OFFLINE=$HF_HUB_OFFLINE"
what=(run "$config" --run-dir "$run" "$@")
if [[ -n ${LLMATIC_SERVE:-} ]]; then
    what=(serve "$config" --file "$run/$LLMATIC_SERVE" --host 0.0.0.0 "$@")
fi
say "llmatic ${what[*]}"

# --- the coordinator -------------------------------------------------------------------------

# cluster.chain: what the coordinator needs to submit its successor, and where it says that it did.
export LLMATIC_HANDOVER
LLMATIC_HANDOVER=$(mktemp -d "${TMPDIR:-/tmp}/llmatic-handover.XXXXXX") ||
    die 1 "${TMPDIR:-/tmp} on $(hostname -s) cannot be written: make room there, or set TMPDIR"
printf '%s\0' "$config" "$run" "$@" >"$LLMATIC_HANDOVER/arguments"
trap 'rm -rf "$LLMATIC_HANDOVER"' EXIT

# In the background: bash looks at signals only between commands, or in 'wait'.
"$python" -m llmatic_hpc "${what[@]}" &
child=$!
[[ -z $received ]] || kill -s "$received" "$child" 2>/dev/null # it came before there was a child

# A signal makes 'wait' return early, with a code that is not the child's; one that is still pending
# does so to the next 'wait', too. So: wait until the child is gone, then once more for each.
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
wait "$child"
wait "$child"
code=$?

# Ended by the very signal: Python was still starting up. Nothing was going on, nothing is lost.
if [[ -n $received ]] && (( code == 128 + $(kill -l "$received") )); then
    code=75
fi
# A server that is warned has nothing to save and ends well; it is to begin again.
if [[ -n ${LLMATIC_SERVE:-} && $received == USR1 ]] && (( code == 0 )); then
    code=75
fi
say "$(date '+%F %T') the ${LLMATIC_SERVE:+server of the }coordinator has ended with code $code"
if (( code == 75 )) && [[ -s $LLMATIC_HANDOVER/successor ]]; then
    say "job $(<"$LLMATIC_HANDOVER/successor") continues the run when the array has ended"
    exit 0
fi
end_server() { # where nothing will ask it before somebody submits the run again
    [[ -z ${LLMATIC_SERVER_JOB:-} ]] ||
        { scancel "$LLMATIC_SERVER_JOB" && say "its server, job $LLMATIC_SERVER_JOB, ends, too"; }
}
(( code == 75 )) || end_server
(( code == 75 )) && [[ -n $job ]] || exit "$code"

# --- again? ----------------------------------------------------------------------------------

again="the same sbatch line continues the run"

# TERM is the word of somebody who has already decided whether this job comes back: a cancelled one
# must not, and a preempted or requeued one Slurm starts again by itself. Except where Slurm ended
# the job for good and it could have gone on: at the time limit, or by a preemption that cancels.
if [[ $received == TERM ]]; then
    for _ in 1 2 3; do # accounting can lag behind
        state=$(sacct --noheader --allocations --parsable2 --jobs="$job" --format=State 2>/dev/null |
            tail -n 1)
        case $state in
            PENDING | RUNNING) sleep 1 ;;
            *) break ;;
        esac
    done
    case $state in
        TIMEOUT | PREEMPTED) ;;
        *)
            [[ $state != CANCELLED* ]] || end_server
            say "stopped by TERM (${state:-no state known}): not requeued from here; $again"
            exit 75
            ;;
    esac
fi

# A time limit within reach of its own warning: every start would be warned at once, do nothing and
# requeue. Slurm looks at limits every half minute. A warning so early in a longer job is somebody's
# own signal, or a preemption's.
if [[ -n $warned_after ]] && (( warned_after < 60 )); then
    limit=$(squeue --noheader --jobs="$job" --format=%l 2>/dev/null)
    if [[ $limit =~ ^1?[0-9]:[0-9][0-9]$ ]]; then # below 20 minutes; longer: H:MM:SS, D-H..., 20:00
        end_server
        die 75 "warned right after the start, for a time limit of $limit: not requeued. Give the job \
far more than ten minutes (sbatch --time=4:00:00), or a later warning (--signal=B:USR1@60); $again"
    fi
fi

if (( restarts >= max_restarts )); then
    end_server
    die 75 "requeued $restarts times already, LLMATIC_MAX_RESTARTS=$max_restarts: not again; $again"
fi

for pause in 2 10 30 60 60 0; do # a controller that restarts is back in a minute or two
    if refusal=$(scontrol requeue "$job" 2>&1) || [[ $refusal == *"pending execution"* ]]; then
        say "requeued as job $job"
        exit 75
    fi
    say "scontrol requeue: $refusal"
    sleep $pause
done
end_server
die 75 "could not be requeued; $again"
