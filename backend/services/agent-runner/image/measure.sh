#!/usr/bin/env bash
# Prints the figures that the image is held to, as measured here and now: sizes, build times, start, memory, health.
# Environment: as for build.sh, and TEMPORAL_SERVICE_ADDRESS, STIGMER_BACKEND_ENDPOINT, STIGMER_TOKEN of a running
# stack. Touches a source file for the warm build, and puts it back.
set -euo pipefail
directory=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/engine.sh
. "$directory/engine.sh"

readonly RUNS=5
export IMAGE=localhost/stigmer-measure/agent-runner VERSION=0.0.0 CONTAINER=stigmer-measure
export STIGMER_HEALTH_PORT=${STIGMER_HEALTH_PORT:-17999}
source_file=$directory/../src/agent_runner/__init__.py
saved=$(mktemp -d)
cp -p "$source_file" "$saved/source"
trap 'cp -p "$saved/source" "$source_file"; "$directory/container.sh" stop >/dev/null; "$directory/container.sh" clean >/dev/null; rm -rf "$saved"' EXIT

now() { date +%s.%N; }

seconds_of() { # command...
    local begin
    begin=$(now)
    "$@" >"$saved/output" 2>&1 || { tail -n 5 "$saved/output" >&2; fail "could not run $*"; }
    awk -v begin="$begin" -v end="$(now)" 'BEGIN {printf "%.2f\n", end - begin}'
}

median() {
    sort -n | sed -n "$(((RUNS + 1) / 2))p"
}

wait_until_ready() {
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$STIGMER_HEALTH_PORT/readyz"; do sleep 0.02; done
}

start_and_wait() {
    WORKSPACE=$saved/workspace "$directory/run_local.sh"
    wait_until_ready
}

find_engine
echo "cold build:       $(NO_CACHE=1 seconds_of "$directory/build.sh") s"
printf '\n# %s\n' "$(now)" >>"$source_file"
echo "warm build:       $(seconds_of "$directory/build.sh") s (one source file changed)"
for _ in $(seq $RUNS); do seconds_of start_and_wait; done >"$saved/starts"
echo "start to ready:   $(median <"$saved/starts") s"
for _ in $(seq $RUNS); do seconds_of "$engine" exec $CONTAINER agent-runner health; done >"$saved/checks"
echo "health check:     $(median <"$saved/checks") s with the engine's exec"
"$engine" exec $CONTAINER bash -c 'TIMEFORMAT=%R; for i in {1..5}; do time agent-runner health; done' 2>"$saved/inside"
echo "health check:     $(median <"$saved/inside") s in the container"
echo "idle memory:      $("$engine" stats --no-stream --format '{{.MemUsage}}' $CONTAINER)"
"$directory/scan.sh" | sed -n 1,11p
