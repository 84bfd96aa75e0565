#!/usr/bin/env bash
# Holds the image to its size, looks for secrets, and for known vulnerabilities where a scanner is installed.
# Environment: VERSION, IMAGE, VARIANT; optional MAX_COMPRESSED_MB, MAX_UNCOMPRESSED_MB.
set -euo pipefail
directory=$(dirname "$0")
# shellcheck source=SCRIPTDIR/engine.sh
. "$directory/engine.sh"

check_version
find_engine
reference=$IMAGE:$VERSION$suffix
if [[ -n $suffix ]]; then
    compressed=270 uncompressed=850
else
    compressed=85 uncompressed=260
fi
require_image "$reference"
command -v python3 >/dev/null || fail 'the scan needs python3' "$EXIT_ENVIRONMENT"

# Podman's archive holds uncompressed layers, as Docker's does, in this format.
format=()
[[ $engine_kind == docker ]] || format=(--quiet --format docker-archive)
"$engine" save "${format[@]}" "$reference" | python3 "$directory/scan.py" \
    --max-compressed-mb "${MAX_COMPRESSED_MB:-$compressed}" --max-uncompressed-mb "${MAX_UNCOMPRESSED_MB:-$uncompressed}" ||
    fail "'$reference' does not pass; what is wrong stands above"

if command -v trivy >/dev/null; then
    trivy image --quiet --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1 "$reference" ||
        fail "trivy found holes in '$reference' for which there are fixes"
elif command -v grype >/dev/null; then
    grype --quiet --only-fixed --fail-on high "$reference" ||
        fail "grype found holes in '$reference' for which there are fixes"
else
    echo 'known vulnerabilities were not looked for: neither trivy nor grype is installed'
fi
