#!/usr/bin/env bash
# Logs in to the registry and pushes: publish.sh login|push|build-multiarch|push-multiarch
# Environment: VERSION, IMAGE, VARIANT, REGISTRY, PLATFORMS; for login optional REGISTRY_USER and REGISTRY_PASSWORD.
set -euo pipefail
directory=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/engine.sh
. "$directory/engine.sh"

# Fills tags with those that this version's images get. Of a release, which never changes, also those that move with
# it, by the rules of all releases: forwards only.
find_tags() { # reference...
    local reference ids=() found complaint
    tags=("$VERSION$suffix")
    [[ -z $suffix ]] || return 0 # it has no tags that move
    is_release || return 0
    for reference in "$@"; do
        ids+=(--image-id "$(image_id "$reference")")
    done
    complaint=$(mktemp)
    if ! found=$("$directory/../../../../.venv/bin/python" -m stigmer_release tags-by-hand \
        --repository "$IMAGE" "${ids[@]}" "$VERSION" 2>"$complaint"); then
        found=$(sed -n 's/^error: //p' "$complaint")
        rm "$complaint"
        fail_push "$IMAGE:$VERSION" "$found"
    fi
    rm "$complaint"
    mapfile -t tags <<<"$found"
}

image_id() { # reference
    local id
    id=$("$engine" image inspect --format '{{.Id}}' "$1")
    echo "sha256:${id#sha256:}"
}

log_in() {
    local REGISTRY=${REGISTRY:-$registry}
    tls_flags_for "$REGISTRY"
    if [[ -n ${REGISTRY_PASSWORD:-} ]]; then
        [[ -n ${REGISTRY_USER:-} ]] || fail 'REGISTRY_PASSWORD is set, REGISTRY_USER is not' "$EXIT_USAGE"
        # Through standard input: an argument would stand in the process list.
        "$engine" login "${tls_flags[@]}" --username "$REGISTRY_USER" --password-stdin "$REGISTRY" \
            <<<"$REGISTRY_PASSWORD" >/dev/null 2>&1 || fail "$REGISTRY refused user '$REGISTRY_USER', or does not answer"
    elif [[ -t 0 ]]; then
        "$engine" login "${tls_flags[@]}" ${REGISTRY_USER:+--username "$REGISTRY_USER"} "$REGISTRY" ||
            fail "could not log in to $REGISTRY"
    else
        fail 'there is no terminal to ask for a password; set REGISTRY_USER and REGISTRY_PASSWORD' "$EXIT_USAGE"
    fi
    echo "logged in to $REGISTRY"
}

is_logged_in() {
    if [[ $engine_kind == podman ]]; then
        "$engine" login --get-login "$registry" >/dev/null 2>&1
    else
        grep -qF "\"$registry\"" "${DOCKER_CONFIG:-$HOME/.docker}/config.json" 2>/dev/null
    fi
}

# Runs a command that reaches the registry; where it fails, one line says why, and what is likely to help.
reach_registry() { # what, command...
    local what=$1 output
    shift
    output=$("$@" 2>&1) || fail_push "$what" "$(tail -n 1 <<<"$output")"
}

fail_push() { # what, reason
    local hint=''
    is_logged_in || hint="; not logged in to $registry: run \`make docker-login REGISTRY=$registry\`"
    fail "could not push '$1': $2$hint"
}

push() {
    local tag
    require_image "$IMAGE:$VERSION$suffix"
    tls_flags_for "$IMAGE"
    find_tags "$IMAGE:$VERSION"
    for tag in "${tags[@]}"; do
        [[ $tag == "$VERSION$suffix" ]] || "$engine" tag "$IMAGE:$VERSION" "$IMAGE:$tag"
        reach_registry "$IMAGE:$tag" "$engine" push "${tls_flags[@]}" "$IMAGE:$tag"
        echo "pushed $IMAGE:$tag"
    done
}

architecture_tag() { # platform
    echo "$IMAGE:$VERSION$suffix-${1##*/}"
}

build_all() {
    local platform
    for platform in "${platforms[@]}"; do
        "$directory/build.sh" "$platform" "$(architecture_tag "$platform")"
    done
}

push_index() {
    local platform tag images=()
    tls_flags_for "$IMAGE"
    for platform in "${platforms[@]}"; do
        require_image "$(architecture_tag "$platform")" build-multiarch
        images+=("$(architecture_tag "$platform")")
    done
    find_tags "${images[@]}"
    for platform in "${platforms[@]}"; do
        tag=$(architecture_tag "$platform")
        reach_registry "$tag" "$engine" push "${tls_flags[@]}" "$tag"
    done
    for tag in "${tags[@]}"; do
        if [[ $engine_kind == podman ]]; then
            push_index_with_podman "$IMAGE:$tag"
        else
            push_index_with_docker "$IMAGE:$tag"
        fi
        echo "pushed $IMAGE:$tag for ${platforms[*]}"
    done
}

push_index_with_docker() { # reference
    local insecure=() images=() platform
    ! is_loopback "$IMAGE" || insecure=(--insecure)
    for platform in "${platforms[@]}"; do
        images+=("$(architecture_tag "$platform")")
    done
    "$engine" manifest rm "$1" >/dev/null 2>&1 || true
    reach_registry "$1" "$engine" manifest create "${insecure[@]}" "$1" "${images[@]}"
    reach_registry "$1" "$engine" manifest push --purge "${insecure[@]}" "$1"
}

push_index_with_podman() { # reference
    local index=localhost/agent-runner-index:$VERSION platform
    "$engine" manifest rm "$index" >/dev/null 2>&1 || true
    "$engine" manifest create "$index" >/dev/null
    for platform in "${platforms[@]}"; do
        "$engine" manifest add "$index" "containers-storage:$(architecture_tag "$platform")" >/dev/null
    done
    reach_registry "$1" "$engine" manifest push "${tls_flags[@]}" --all --format v2s2 "$index" "docker://$1"
    "$engine" manifest rm "$index" >/dev/null
}

check_version
find_engine
registry=${IMAGE%%/*}
IFS=, read -ra platforms <<<"${PLATFORMS:-linux/amd64,linux/arm64}"
for platform in "${platforms[@]}"; do
    case $platform in
        linux/amd64 | linux/arm64) ;;
        *) fail "PLATFORMS has '$platform'; write linux/amd64, linux/arm64, or both with a comma between" "$EXIT_USAGE" ;;
    esac
done
case ${1:-} in
    login) log_in ;;
    push) push ;;
    build-multiarch) build_all ;;
    push-multiarch) push_index ;;
    *) fail 'usage: publish.sh login|push|build-multiarch|push-multiarch' "$EXIT_USAGE" ;;
esac
