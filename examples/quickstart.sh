#!/usr/bin/env bash
# The main job, from nothing: a shop's customers to HubSpot (a simulator on this machine), then just what changed.
set -euo pipefail
cd "$(dirname "$0")/.."

show() { printf '\n$ %s\n' "$*" | sed "s#$outflow#outflow#"; "$@"; }

echo "Building outflow (some minutes the first time) ..."
cargo build --release --quiet -p outflow
outflow="${CARGO_TARGET_DIR:-target}/release/outflow"
outflow=$(cd "$(dirname "$outflow")" && pwd)/outflow
folder=$(mktemp -d)
export HUBSPOT_TOKEN=any-token-will-do OUTFLOW_PROJECT="$folder/shop"

"$outflow" simulate hubspot >"$folder/simulator.log" &
simulator=$!
trap 'kill $simulator 2>/dev/null; rm -rf "$folder"' EXIT
until grep -q "simulator on" "$folder/simulator.log"; do
    kill -0 $simulator || { echo "The simulator did not start; is port 18091 in use?"; exit 1; }
done

show "$outflow" init --example "$OUTFLOW_PROJECT"
show "$outflow" check
show "$outflow" run

printf '\nA day goes by in the shop.\n'
show "$outflow" init --example --next-day "$OUTFLOW_PROJECT"
show "$outflow" plan customers_to_hubspot
show "$outflow" run
printf '\nNothing has changed since:\n'
show "$outflow" run
show "$outflow" runs
