#!/usr/bin/env bash
# Looks into the container that run-local started, or ends it: container.sh logs|stop|shell|clean
# Environment: CONTAINER; optional FOLLOW=1 for logs; VERSION and IMAGE for clean.
set -euo pipefail
# shellcheck source=SCRIPTDIR/engine.sh
. "$(dirname "$0")/engine.sh"

# Longer than the runner takes to hand its work back on SIGTERM.
readonly STOP_SECONDS=15

exists() {
    "$engine" container inspect "$CONTAINER" >/dev/null 2>&1
}

find_engine
case ${1:-} in
    logs)
        exists || fail "there is no container '$CONTAINER'; run \`make run-local\`"
        follow=()
        [[ -z ${FOLLOW:-} ]] || follow=(--follow)
        exec "$engine" logs "${follow[@]}" "$CONTAINER"
        ;;
    stop)
        if exists; then
            "$engine" stop --time "$STOP_SECONDS" "$CONTAINER" >/dev/null || fail "could not stop '$CONTAINER'"
            "$engine" rm --force "$CONTAINER" >/dev/null || fail "could not remove '$CONTAINER'"
        fi
        echo "$CONTAINER is stopped"
        ;;
    shell)
        [[ $("$engine" container inspect --format '{{.State.Running}}' "$CONTAINER" 2>/dev/null) == true ]] ||
            fail "'$CONTAINER' does not run; run \`make run-local\`"
        terminal=()
        [[ ! -t 0 ]] || terminal=(--tty)
        exec "$engine" exec --interactive "${terminal[@]}" "$CONTAINER" bash
        ;;
    clean)
        check_version
        for tag in "$VERSION" "$VERSION-full" "$VERSION-amd64" "$VERSION-arm64"; do
            "$engine" rmi --force "$IMAGE:$tag" >/dev/null 2>&1 || true
        done
        echo "removed the images of $IMAGE:$VERSION"
        ;;
    *) fail "usage: container.sh logs|stop|shell|clean" "$EXIT_USAGE" ;;
esac
