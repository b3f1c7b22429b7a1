# shellcheck shell=bash
# What up.sh and down.sh share: where the test bed lives, and which processes are its own.

tb=${SLURM_TB:-/var/lib/slurm-tb}

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
die() { say "ERROR: $*" >&2; exit 1; }

require_root() { [ "$(id -u)" = 0 ] || die "only root can start and stop Slurm's daemons: sudo $0"; }

# One machine, one set of ports, one cluster: up.sh and down.sh take turns.
take_turn() {
    exec 9>/run/lock/slurm-testbed.lock
    flock --timeout 120 9 || die "another up.sh or down.sh has been at work for two minutes"
}

# A pid file alone may name a stranger: pids are handed out again. The kernel's start time of the
# process tells them apart. A zombie counts as gone.
start_time() { # pid
    local line fields
    # The file can vanish before it is opened or while it is read: both mean that the process is gone.
    { line=$(<"/proc/$1/stat"); } 2>/dev/null && [ -n "$line" ] || return 1
    # The command name, the second field, may hold spaces and parentheses.
    read -ra fields <<<"${line##*) }"
    [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

remember() { echo "$2 $(start_time "$2" || echo gone)" >"$tb/run/$1.own"; } # name pid

# Prints the pid of the daemon that up.sh started under this name; fails if it is gone.
own_pid() { # name
    local pid started
    [ -s "$tb/run/$1.own" ] || return 1
    read -r pid started <"$tb/run/$1.own"
    [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

is_up() { own_pid "$1" >/dev/null; } # name
