#!/usr/bin/env bash
# Sets up what the Makefile's targets need. Each argument names one part:
#
#   packages GROUP   Debian packages: python (to make virtual environments), tests (the servers and
#                    auditors that tests run), bench (what the benchmark is compared with), deb (to
#                    build the Debian package)
#   python           the virtual environment .venv with Bascule and its tools
#   oldest           the virtual environment .venv-oldest with Bascule, the oldest versions of what it
#                    needs (tools/oldest.py) and the tools that its tests need
#   node             @xmpp/client for the tests
#
# Debian packages are installed only as root; otherwise, and on other systems, the missing ones are
# named and all goes on: what needs them says so itself.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
OLDEST=.venv-oldest
TEST_TOOLS='hypothesis pytest pytest-timeout'
OLDEST_NODE=20.10
NODE_CLIENTS=tests/servers/node

declare -A PACKAGES=(
    [python]='python3-venv'
    [tests]='prosody lua-unbound jabberd2 ejabberd mcabber unbound nftables iproute2 openssl sslscan testssl.sh procps groff-base systemd systemd-container prometheus'
    [bench]='haproxy stunnel4 openssl procps util-linux make gcc libc6-dev libssl-dev'
    [deb]='build-essential debhelper lintian python3-venv'
)

say() { echo "setup: $*" >&2; }

die() {
    say "$*"
    exit 1
}

has() { type -P "$1" >/dev/null; } # COMMAND : is it there, as a program?

missing_packages() { # GROUP
    local package
    for package in ${PACKAGES[$1]}; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            echo "$package"
    done
}

# Debian starts a daemon when it is installed, on its usual ports; a policy-rc.d that says 101
# ("forbidden", see invoke-rc.d(8)) prevents that. One that is there already is left alone.
install_packages() { # PACKAGE...
    local policy=/usr/sbin/policy-rc.d package known=()
    if [ ! -e "$policy" ]; then
        # shellcheck disable=SC2064  # the path is to be expanded now
        trap "rm -f '$policy'" EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >&2 || say 'apt-get update failed; going on with the lists there are'
    for package; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            known+=("$package")
        else
            say "this system has no package $package"
        fi
    done
    [ ${#known[@]} = 0 ] || apt-get install -q -y --no-install-recommends "${known[@]}" >&2 ||
        say 'apt-get install failed; going on without'
}

packages() { # GROUP
    local missing
    if ! has dpkg-query || ! has apt-get; then
        say "not a Debian system; wanted are the programs of: ${PACKAGES[$1]}"
        return
    fi
    mapfile -t missing < <(missing_packages "$1")
    [ ${#missing[@]} != 0 ] || return 0
    if [ "$(id -u)" = 0 ]; then
        say "installing ${missing[*]}"
        (install_packages "${missing[@]}")
    else
        say "not root, so these Debian packages stay missing: ${missing[*]}"
    fi
}

# Debian's own Python first: it is built with profile-guided optimisation.
best_python() {
    local candidate
    for candidate in /usr/bin/python3 python3.11 python3.12 python3.13 python3.14 python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            type -P "$candidate"
            return
        fi
    done
    die 'no Python 3.11 or later that can make virtual environments (Debian: python3-venv)'
}

empty_environment() { # DIRECTORY
    local base
    # What it leads to would be emptied.
    [ ! -L "$1" ] || die "$1 is a symbolic link"
    base=$(best_python)
    say "making $1 with $base ($("$base" -c 'import platform; print(platform.python_version())'))"
    "$base" -m venv --clear "$1"
}

make_environment() {
    empty_environment "$VENV"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check -e '.[dev]'
    touch "$VENV/.ready"
}

# Where no index can be reached there is nothing to say about old versions: only in CI that is a
# failure. Versions that cannot be installed together are one everywhere.
make_oldest_environment() {
    local python=$OLDEST/bin/python
    empty_environment "$OLDEST"
    "$python" tools/oldest.py >"$OLDEST/constraints.txt"
    # shellcheck disable=SC2086  # the tools are words
    if "$python" -m pip install -q --disable-pip-version-check -c "$OLDEST/constraints.txt" \
        -e . $TEST_TOOLS; then
        touch "$OLDEST/.ready"
    elif "$python" -m pip --retries 1 --timeout 20 index versions attrs >/dev/null 2>&1; then
        die 'the oldest versions that setup.cfg allows cannot be installed'
    elif [ -n "${CI:-}" ]; then
        die 'no package index can be reached (CI is set, so nothing is skipped)'
    else
        say 'no package index can be reached, so the oldest versions are not tested'
    fi
}

install_node_clients() {
    local version
    if ! has node || ! has npm || ! version=$(node --version); then
        say "no Node.js with npm, so @xmpp/client is not tested; wanted is $OLDEST_NODE or later"
    elif ! printf '%s\n' "$OLDEST_NODE" "${version#v}" | sort -CV; then
        say "Node.js $version is too old to test @xmpp/client; wanted is $OLDEST_NODE or later"
    else
        npm --prefix "$NODE_CLIENTS" ci --loglevel error --ignore-scripts --no-audit --no-fund \
            >/dev/null || say 'npm ci failed, so @xmpp/client is not tested'
    fi
}

while [ $# != 0 ]; do
    case $1 in
    packages)
        if [ -z "${2:-}" ] || [ -z "${PACKAGES[$2]:-}" ]; then
            die "packages: one of ${!PACKAGES[*]}"
        fi
        packages "$2"
        shift
        ;;
    python) make_environment ;;
    oldest) make_oldest_environment ;;
    node) install_node_clients ;;
    *) die "no part '$1'; there are: packages GROUP, python, oldest, node" ;;
    esac
    shift
done
