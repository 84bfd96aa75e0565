#!/usr/bin/env bash
# Logs in to the registry and pushes: publish.sh login|push|build-multiarch|push-multiarch
# Environment: VERSION, IMAGE, REGISTRY, PLATFORMS; for login optional REGISTRY_USER and REGISTRY_PASSWORD.
set -euo pipefail
directory=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/engine.sh
. "$directory/engine.sh"

# The tags of this version: of a release also those that move with it.
tags() {
    local major minor
    echo "$VERSION"
    if is_release; then
        IFS=. read -r major minor _ <<<"$VERSION"
        printf '%s\n' "$major.$minor" "$major" latest
    fi
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
    if ! output=$("$@" 2>&1); then
        local reason hint=''
        reason=$(tail -n 1 <<<"$output")
        is_logged_in || hint="; not logged in to $registry: run \`make docker-login REGISTRY=$registry\`"
        fail "could not push '$what': $reason$hint"
    fi
}

push() {
    local tag
    require_image "$IMAGE:$VERSION"
    tls_flags_for "$IMAGE"
    while read -r tag; do
        [[ $tag == "$VERSION" ]] || "$engine" tag "$IMAGE:$VERSION" "$IMAGE:$tag"
        reach_registry "$IMAGE:$tag" "$engine" push "${tls_flags[@]}" "$IMAGE:$tag"
        echo "pushed $IMAGE:$tag"
    done < <(tags)
}

architecture_tag() { # platform
    echo "$IMAGE:$VERSION-${1##*/}"
}

build_all() {
    local platform
    for platform in "${platforms[@]}"; do
        "$directory/build.sh" "$platform" "$(architecture_tag "$platform")"
    done
}

push_index() {
    local platform tag
    tls_flags_for "$IMAGE"
    for platform in "${platforms[@]}"; do
        require_image "$(architecture_tag "$platform")" build-multiarch
    done
    for platform in "${platforms[@]}"; do
        tag=$(architecture_tag "$platform")
        reach_registry "$tag" "$engine" push "${tls_flags[@]}" "$tag"
    done
    while read -r tag; do
        if [[ $engine_kind == podman ]]; then
            push_index_with_podman "$IMAGE:$tag"
        else
            push_index_with_docker "$IMAGE:$tag"
        fi
        echo "pushed $IMAGE:$tag for ${platforms[*]}"
    done < <(tags)
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
