#!/usr/bin/env bash
# Tries the image VERSION of IMAGE against a real Temporal and server: the same tests that CI runs.
set -euo pipefail
directory=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/engine.sh
. "$directory/engine.sh"

check_version
find_engine
require_image "$IMAGE:$VERSION$suffix"
cd "$directory/../../../.."
tests=backend/services/agent-runner/tests/image
STIGMER_TEST_ENGINE=$engine_kind STIGMER_TEST_IMAGE=$IMAGE:$VERSION$suffix CI=true \
    .venv/bin/pytest -q --exitfirst "$tests/test_running_image.py" "$tests/test_image_contents.py" -k "$engine_kind" ||
    fail "'$IMAGE:$VERSION$suffix' does not pass; what is wrong stands above"
