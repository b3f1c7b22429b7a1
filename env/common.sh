# shellcheck shell=bash
# Shared by quickstart.sh and test.sh: makes .venv and installs the project into it, once.
# Source it from the root of the project with $1 = the extras to install.

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nllmatic: %s\n' "$*" >&2; exit 1; }

python=${LLMATIC_PYTHON:-python3}
command -v "$python" >/dev/null || die "no $python here. Install Python 3.11 or later (Debian: apt-get install python3 python3-venv), or name one: LLMATIC_PYTHON=/path/to/python3 bash $0"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$python" --version) is too old: 3.11 or later is needed. Name another: LLMATIC_PYTHON=/path/to/python3 bash $0"

install_project() {
    local extras=$1 stamp
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            # Debian ships venv as a package of its own.
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
                say "installing python3-venv (Debian keeps it apart)"
                { apt-get update -qq && apt-get install -qq -y python3-venv; } >/dev/null ||
                    die "apt-get could not install python3-venv"
            else
                die "this Python cannot make virtual environments. Debian: sudo apt-get install python3-venv"
            fi
        fi
        say "making .venv with $("$python" --version)"
        "$python" -m venv .venv || die "no virtual environment could be made in .venv; remove that folder and try again"
    fi
    # What is installed is known by the files that say what to install.
    stamp="$extras $(cat setup.cfg pyproject.toml | cksum)"
    if [ "$(cat .venv/.installed 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c 'import llmatic_hpc' 2>/dev/null; then
        say "already installed in .venv"
        return
    fi
    say "installing llmatic-hpc[$extras] into .venv (PyTorch is large: minutes at the first time)"
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
        --editable ".[$extras]" | grep -E '^(Collecting|Installing|Successfully|ERROR)' ||
        die "installing failed; the lines above say why. Behind a proxy set HTTPS_PROXY; a mirror goes into PIP_INDEX_URL"
    printf '%s' "$stamp" >.venv/.installed
}
