#!/usr/bin/env bash
# Builds the image for one platform and tags it: build.sh [PLATFORM [TAG]]
# Environment: VERSION, IMAGE; optional SERVICE (whose Dockerfile; stigmer-server's too), VARIANT, ENGINE, BUILDER, PYTHON_IMAGE, UV_IMAGE, SYSTEM_PACKAGES, CA_BUNDLE,
# proxies, NO_CACHE, SOURCE_DATE_EPOCH (seconds; with Podman: builds of equal sources have equal layers).
set -euo pipefail
cd "$(dirname "$0")/../../../.."
# shellcheck source=SCRIPTDIR/engine.sh
. backend/services/agent-runner/image/engine.sh

readonly service=backend/services/${SERVICE:-agent-runner}
check_version
readonly stage=${VARIANT:-runtime}
find_engine
native=$(native_platform)
platform=${1:-$native}
tag=${2:-$IMAGE:$VERSION$suffix}

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The commit's time and not the clock's: equal sources, equal labels.
created=$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || true)
created=${created:-1970-01-01T00:00:00Z}
arguments=(
    --tag "$tag"
    --build-arg "VERSION=$VERSION" --build-arg "REVISION=$revision" --build-arg "CREATED=$created"
)
for name in PYTHON_IMAGE UV_IMAGE SYSTEM_PACKAGES; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name=${!name}")
done
# By name: proxies may carry a password, which would stand in the process list.
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name")
done
if [[ -n ${CA_BUNDLE:-} && ! -f $CA_BUNDLE ]]; then
    fail "CA_BUNDLE is '$CA_BUNDLE', which is not a file" "$EXIT_USAGE"
fi
secret=()
[[ -z ${CA_BUNDLE:-} ]] || secret=(--secret "id=ca,src=$CA_BUNDLE")
[[ -z ${NO_CACHE:-} ]] || arguments+=(--no-cache)
[[ $platform == "$native" ]] || arguments+=(--platform "$platform")

id_of() { # reference
    "$engine" image inspect --format '{{.Id}}' "$1" 2>/dev/null || true
}

# What had the tag until now would stay for good, without a name. The layers that both have stay, and the cache.
forget_replaced() { # id, or nothing
    [[ -n $1 && $1 != "$(id_of "$tag")" ]] || return 0
    [[ $("$engine" image inspect --format '{{len .RepoTags}}' "$1" 2>/dev/null) == 0 ]] || return 0
    # Refused where a container is of it.
    "$engine" rmi "$1" >/dev/null 2>&1 || true
}

build_with_docker() {
    if "$engine" buildx version >/dev/null 2>&1; then
        "$engine" buildx build --load --target "$stage" "${secret[@]}" "${arguments[@]}" --file "$service/Dockerfile" .
    else
        DOCKER_BUILDKIT=1 "$engine" build --target "$stage" "${secret[@]}" "${arguments[@]}" --file "$service/Dockerfile" .
    fi
}

build_with_podman() {
    # Podman 4.3 takes a LABEL from its cache whatever the arguments in it were: of a release, `dev-local`. Of --label
    # it does not, but only in the file's last stage, so that the last stage is the one that is wanted.
    local labels=(
        --label "org.opencontainers.image.version=$VERSION"
        --label "org.opencontainers.image.revision=$revision"
        --label "org.opencontainers.image.created=$created"
    )
    # The OCI format has no health checks. Podman's layer cache is off where it is not asked for. Of the base image
    # it would take the architecture that it fetched last: `newer` looks, and settles for that offline.
    local timestamp=()
    tls_flags_for "${PYTHON_IMAGE:-}" "${UV_IMAGE:-}"
    # For a release: every file bears this time, so that equal sources give equal layers. The layers that the cache
    # holds may bear another.
    [[ -z ${SOURCE_DATE_EPOCH:-} ]] || timestamp=(--timestamp "$SOURCE_DATE_EPOCH" --identity-label=false --no-cache)
    "$engine" build --format docker --layers --pull=newer "${timestamp[@]}" "${tls_flags[@]}" "${secret[@]}" \
        "${arguments[@]}" "${labels[@]}" \
        --build-arg "BUILDER_PLATFORM=$native" --ignorefile "$service/.dockerignore" --file - . \
        < <(sed "s/^FROM runtime\$/FROM $stage/" "$service/Dockerfile")
}

# The classic builder knows no mounts and no Dockerfile.dockerignore: it gets a Dockerfile without the first, only
# the files that the second lets through, and the authority in a builder image of its own.
build_with_classic() {
    local context
    context=$(mktemp -d)
    # shellcheck disable=SC2064  # the directory of now
    trap "rm -rf '$context'" EXIT
    sed -n 's/^!//p' "$service/.dockerignore" |
        tar --create --exclude='__pycache__' --exclude='*.pyc' --files-from - | tar --extract --directory "$context"
    sed -e '/^ *--mount=[^ ]* \\$/d' -e 's/^RUN --mount=[^ ]* \\$/RUN \\/' "$service/Dockerfile" >"$context/Dockerfile"
    arguments+=(--build-arg "BUILDER_PLATFORM=$native")
    if [[ -n ${CA_BUNDLE:-} ]]; then
        mkdir "$context/authority"
        cp "$CA_BUNDLE" "$context/authority/ca.crt"
        printf 'FROM %s\nCOPY ca.crt /run/secrets/ca.crt\n' "${PYTHON_IMAGE:-python:3.11-slim-bookworm}" >"$context/authority/Dockerfile"
        DOCKER_BUILDKIT=0 "$engine" build --quiet --tag agent-runner-builder:private-authority "$context/authority" >/dev/null
        rm -r "$context/authority"
        arguments+=(--build-arg BUILDER_IMAGE=agent-runner-builder:private-authority)
    fi
    local code=0
    DOCKER_BUILDKIT=0 "$engine" build --target "$stage" "${arguments[@]}" "$context" || code=$?
    [[ -z ${CA_BUNDLE:-} ]] || "$engine" rmi agent-runner-builder:private-authority >/dev/null 2>&1 || true
    return "$code"
}

replaced=$(id_of "$tag")
case $builder in
    buildkit) build_with_docker ;;
    classic) build_with_classic ;;
    buildah) build_with_podman ;;
esac || fail "could not build '$tag' for $platform; the reason stands above"
forget_replaced "$replaced"
echo "built $tag for $platform"
