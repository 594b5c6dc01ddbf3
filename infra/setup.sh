#!/usr/bin/env bash
# Sets up .venv in the checkout:  infra/setup.sh core   what `make build` needs (no torch)
#                                 infra/setup.sh all    the extras, the development tools, what `make bench` compares with, and the EGL libraries
# The versions are those of infra/constraints.txt. When the environment already fits, it ends in milliseconds.
# PYTHON=/path/to/python3 chooses the interpreter that a new environment is made with.
set -euo pipefail

usage="usage: infra/setup.sh core|all"
level=${1:?"$usage"}
case $level in
    core) requirement=. ;;
    all) requirement='.[all,dev,bench]' ;;
    *) echo "$usage" >&2; exit 2 ;;
esac

# What pyrender needs to draw without a display: EGL, Mesa's software renderer (a driver of the machine's own stays), pyglet's X11.
egl_packages=(libegl1 libgl1 libgl1-mesa-dri libxrender1)

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

apt_install() {  # True when the packages are installed: as root, or with sudo where that asks for no password.
    command -v apt-get >/dev/null || return 1
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    say "apt-get install $*"
    "${apt[@]}" update || true  # old lists may still do
    "${apt[@]}" install --yes --no-install-recommends "$@" </dev/null >/dev/null
}

find_python() {  # Prints the first interpreter that is new enough.
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

new_environment() {
    local python version
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] && apt_install python3 python3-venv && python=$(find_python) ||
            fail "Python 3.11 or newer is needed and ${PYTHON:-python3} is not one; install it, or name one: PYTHON=/path/to/python3 make build"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" && "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python lacks the modules venv and ensurepip; install them (as root: apt-get install python$version-venv) and run this again"
    fi
    say "new environment .venv from $python"
    "$python" -m venv --clear .venv
}

egl_works() {
    PYOPENGL_PLATFORM=egl .venv/bin/python -c 'import pyrender; pyrender.OffscreenRenderer(8, 8).delete()' 2>/dev/null
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec 9<infra/setup.sh
if ! flock --nonblock 9; then  # two `make` at the same time: the second one waits and then has nothing to do
    say "waiting for another \`make\` that sets up .venv"
    flock 9
fi

# The stamp says what was installed and from which inputs; it lies in the environment and goes with it.
key=$(cat pyproject.toml infra/constraints.txt infra/setup.sh | sha256sum | cut -d' ' -f1)
for stamp in ".venv/facefoundry-$level" .venv/facefoundry-all; do
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$key $PWD" ]; then
        exit 0
    fi
done

# An environment that is broken, or that was made for another folder, is made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qF "$PWD/.venv" .venv/bin/activate; then
    new_environment
fi
rm -f .venv/facefoundry-core .venv/facefoundry-all

case $level in
    core) say "installing the main job's packages: about a minute, 1 GB" ;;
    all) say "installing everything, torch too: a few minutes, 3 GB" ;;
esac
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --editable "$requirement" </dev/null

if [ "$level" = all ] && ! egl_works && ! { apt_install "${egl_packages[@]}" && egl_works; }; then
    say "pictures drawn with pyrender need EGL; as root: apt-get install ${egl_packages[*]}"
fi
echo "$key $PWD" >".venv/facefoundry-$level"
