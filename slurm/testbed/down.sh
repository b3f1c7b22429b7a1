#!/usr/bin/env bash
# Stop what up.sh started, and nothing else.
#
#   down.sh          cancel the jobs, stop the daemons; the next up.sh remembers job ids and accounting
#   down.sh --wipe   ... and remove every trace but the packages
set -uo pipefail
# shellcheck source=slurm/testbed/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

wipe=no
case "${1:-}" in
    '') ;;
    --wipe) wipe=yes ;;
    *) die "unknown option $1: there is only --wipe" ;;
esac

# Jobs first: a slurmstepd survives its slurmd.
cancel_jobs() {
    local how ids i
    is_up slurmctld && is_up munged && timeout 10 scontrol ping >/dev/null 2>&1 || return 0
    for how in '' --signal=KILL; do # the second time for what ignores TERM
        mapfile -t ids < <(queued_jobs)
        [ ${#ids[@]} -gt 0 ] || return 0
        timeout 20 scancel ${how:+"$how" --full} "${ids[@]}" 2>/dev/null
        for ((i = 0; i < 100; i++)); do
            [ -n "$(queued_jobs)" ] || return 0
            sleep 0.1
        done
    done
}

queued_jobs() { timeout 10 squeue -h -o %F 2>/dev/null | sort -u; } # of arrays: the array's id

stop() { # name signal seconds
    local pid i
    if pid=$(own_pid "$1"); then
        kill -s "$2" "$pid"
        for ((i = 0; i < $3 * 20; i++)); do
            is_up "$1" || break
            sleep 0.05
        done
        if is_up "$1"; then
            say "$1 ($pid) has ignored $2 for $3 s: killed"
            kill -s KILL "$pid"
        fi
    fi
    rm -f "$tb/run/$1.own"
}

stop_nodes() {
    local file pid name names=()
    for file in "$tb"/run/slurmd.*.own; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .own)
        names+=("$name")
        if pid=$(own_pid "$name"); then kill -s TERM "$pid"; fi # all at once, then wait for each
    done
    for name in "${names[@]}"; do stop "$name" TERM 10; done
    for pid in $(left_steps); do
        say "killing slurmstepd $pid, which has outlived its node"
        kill -s KILL "$pid"
    done
}

# Their environment names no node; the log file that they hold open does.
left_steps() {
    local folder
    for folder in /proc/[0-9]*; do
        [ "$(cat "$folder/comm" 2>/dev/null)" = slurmstepd ] || continue
        case "$(readlink "$folder"/fd/{3,4,5} 2>/dev/null)" in
            *"$tb/log/slurmd."*) echo "${folder#/proc/}" ;;
        esac
    done
}

remove_traces() {
    local name controller
    for name in slurm gres cgroup slurmdbd; do
        [ "$(readlink "/etc/slurm/$name.conf")" != "$tb/etc/$name.conf" ] ||
            rm -f "/etc/slurm/$name.conf"
        [ ! -e "/etc/slurm/$name.conf.before-testbed" ] ||
            mv "/etc/slurm/$name.conf.before-testbed" "/etc/slurm/$name.conf"
    done
    if grep -q '# slurm-testbed$' /etc/hosts; then
        name=$(grep -v '# slurm-testbed$' /etc/hosts)
        printf '%s\n' "$name" >/etc/hosts # written over, not replaced: in a container it is a mount
    fi
    for name in "$tb"/spool/*; do
        for controller in memory freezer; do
            find "/sys/fs/cgroup/$controller/slurm_$(basename "$name")" \
                -depth -type d -exec rmdir {} + 2>/dev/null
        done
    done
    # Only a folder that up.sh made is ever removed.
    if [ -f "$tb/etc/slurm.conf" ] && [ -d "$tb/munge" ]; then
        rm -rf --one-file-system "$tb"
    fi
}

require_root
take_turn
if [ ! -d "$tb/run" ]; then
    say "nothing to stop in $tb"
    exit 0
fi
cancel_jobs
stop_nodes
# A clean end of the database takes ten seconds: too long for what is thrown away.
if [ $wipe = yes ]; then how=KILL; else how=TERM; fi
stop slurmctld $how 20
stop slurmdbd $how 20
stop mariadbd $how 30
stop munged TERM 5
[ $wipe = no ] || remove_traces
say "Slurm is down"
