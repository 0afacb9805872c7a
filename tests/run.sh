#!/usr/bin/env bash
# The tests, over services of their own: private instances on free ports, gone afterwards. What is missing is installed from the
# distribution where that is allowed; else the tests over it show as ignored, or fail with REQUIRE_SERVICES=1.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(faketime)
# Object stores for tests, in a folder of the user's cache.
emulators="${XDG_CACHE_HOME:-$HOME/.cache}/outflow-ci/emulators"
readers="$emulators/readers/bin/python" readers_of='psycopg[binary]==3.3.9 pyarrow==26.0.1 duckdb==2.0.1 numpy==2.4.6'
moto="$emulators/moto/bin/moto_server" azurite="$emulators/azurite/node_modules/.bin/azurite-blob"
[ -x "$moto" ] || [ -n "${OUTFLOW_TEST_MOTO:-}" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ -x "$readers" ] || [ -n "${OUTFLOW_TEST_READERS:-}" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ -x "$azurite" ] || [ -n "${OUTFLOW_TEST_AZURITE:-}" ] || command -v npm >/dev/null || missing+=(npm)

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" != 0 ] || as_root=(env)
    [ "$(id -u)" = 0 ] || ! sudo -n true 2>/dev/null || as_root=(sudo)
    if [ ${#as_root[@]} -gt 0 ] && command -v apt-get >/dev/null; then
        # Installed, not started: the tests start instances of their own.
        policy=/usr/sbin/policy-rc.d
        [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin $policy; trap '"${as_root[@]}" rm -f $policy' EXIT; }
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "not installed: ${missing[*]}; the tests over them are left out (apt-get install ${missing[*]})" >&2
    fi
fi

if [ -z "${OUTFLOW_TEST_MOTO:-}" ] && { [ -x "$moto" ] || python3 -c 'import ensurepip, venv' 2>/dev/null; }; then
    # A run that was cut short may have left half of it.
    [ -x "$moto" ] || { python3 -m venv --clear "$emulators/moto" && "$emulators/moto/bin/pip" install -q --disable-pip-version-check 'moto[server,s3]==5.2.5'; }
    export OUTFLOW_TEST_MOTO="$moto"
fi
# Independent readers, beside which the differential test reads the same data.
if [ -z "${OUTFLOW_TEST_READERS:-}" ] && { [ -x "$readers" ] || python3 -c 'import ensurepip, venv' 2>/dev/null; }; then
    installed="$emulators/readers/installed"
    # shellcheck disable=SC2086 # a list of words
    [ "$(cat "$installed" 2>/dev/null)" = "$readers_of" ] || {
        python3 -m venv --clear "$emulators/readers" && "$emulators/readers/bin/pip" install -q --disable-pip-version-check $readers_of &&
            echo "$readers_of" >"$installed"
    }
    export OUTFLOW_TEST_READERS="$readers"
fi
if [ -z "${OUTFLOW_TEST_AZURITE:-}" ] && { [ -x "$azurite" ] || command -v npm >/dev/null; }; then
    [ -x "$azurite" ] || npm install --silent --no-audit --no-fund --no-save --prefix "$emulators/azurite" azurite@3.35.0
    export OUTFLOW_TEST_AZURITE="$azurite"
fi

cargo test --workspace "$@"
