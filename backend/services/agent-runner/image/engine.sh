# Finds the container engine and says in one line what is wrong; sourced by the scripts beside it.
# Knows Docker and Podman, and nothing of what is run.
# shellcheck shell=bash disable=SC2034 # some variables are for the scripts that source this

readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_ENVIRONMENT=3
readonly ANSWER_SECONDS=60

fail() { # message, exit code
    printf 'error: %s\n' "$1" >&2
    exit "${2:-$EXIT_FAILED}"
}

# Sets engine (the program) and engine_kind (docker|podman).
find_engine() {
    local candidate
    if [[ -n ${ENGINE:-} ]]; then
        engine=$(command -v -- "$ENGINE") || fail "ENGINE is '$ENGINE', and there is no such program" "$EXIT_ENVIRONMENT"
        kind_of_engine
        engine_answers || fail "'$ENGINE' does not answer: $complaint" "$EXIT_ENVIRONMENT"
        prefer_buildkit
        return
    fi
    for candidate in docker podman; do
        engine=$(command -v "$candidate") || continue
        kind_of_engine
        if engine_answers; then
            prefer_buildkit
            return
        fi
    done
    fail 'no container engine: neither Docker nor Podman answers; install one, or set ENGINE' "$EXIT_ENVIRONMENT"
}

kind_of_engine() {
    case $("$engine" --version 2>/dev/null) in
        podman*) engine_kind=podman ;;
        *) engine_kind=docker ;;
    esac
}

# Sets complaint where it does not. Podman answers nobody while it stores a layer, which takes its time.
engine_answers() {
    local code=0
    complaint=$(timeout $ANSWER_SECONDS "$engine" info 2>&1 >/dev/null) || code=$?
    complaint=$(tail -n 1 <<<"$complaint")
    ((code != 124)) || complaint="it said nothing in $ANSWER_SECONDS seconds"
    return $code
}

# Of several Docker clients on PATH, one that has BuildKit; a newer client without the buildx plugin has none.
# Sets builder (buildkit|classic|buildah); BUILDER=classic asks for the old one.
prefer_buildkit() {
    local client
    if [[ $engine_kind == podman ]]; then
        builder=buildah
        return
    fi
    builder=classic
    [[ ${BUILDER:-} != classic ]] || return 0
    while read -r client; do
        if has_buildkit "$client"; then
            engine=$client
            builder=buildkit
            return
        fi
    done < <({ echo "$engine"; [[ -n ${ENGINE:-} && $ENGINE == */* ]] || type -aP docker; } | awk '!seen[$0]++')
}

has_buildkit() { # client
    local major
    "$1" buildx version >/dev/null 2>&1 && return
    major=$("$1" version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
    [[ $major =~ ^[0-9]+$ ]] && ((major >= 19 && major < 23)) # built into these
}

# An image or registry on this machine, which speaks plain HTTP.
is_loopback() { # reference
    [[ $1 =~ ^(localhost|127\.[0-9.]+|\[::1\])(:|/|$) ]]
}

# Fills tls_flags for calls that reach a registry; Docker takes plain HTTP on loopback by itself.
tls_flags_for() { # reference...
    local reference
    tls_flags=()
    [[ $engine_kind == podman ]] || return 0
    for reference in "$@"; do
        if is_loopback "$reference"; then
            tls_flags=(--tls-verify=false)
        fi
    done
}

# The image comes in two variants: the plain one, and `full` with compilers, Node.js, uv and pip, tagged VERSION-full.
# Sets suffix.
check_variant() {
    case ${VARIANT:=} in
        '') suffix='' ;;
        full) suffix=-full ;;
        *) fail "VARIANT is '$VARIANT'; write full, or leave it out" "$EXIT_USAGE" ;;
    esac
}

# A version is what may stand in a tag and is not one of the tags that move.
check_version() {
    check_variant
    if [[ ${VERSION:=dev-local} == latest || $VERSION =~ ^v?[0-9]+(\.[0-9]+)?$ ]]; then
        fail "VERSION is '$VERSION', a tag that moves with each release; write X.Y.Z" "$EXIT_USAGE"
    elif [[ $VERSION =~ ^v[0-9] ]]; then
        fail "VERSION is '$VERSION'; write it without the v: ${VERSION#v}" "$EXIT_USAGE"
    elif ! [[ $VERSION =~ ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$ ]]; then
        fail "VERSION is '$VERSION'; write X.Y.Z, X.Y.Z-rc.1, or a word of letters, digits, '.', '_' and '-'" "$EXIT_USAGE"
    fi
}

is_release() {
    [[ $VERSION =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]]
}

require_image() { # reference
    "$engine" image inspect "$1" >/dev/null 2>&1 || fail "there is no image '$1' here; run \`make ${2:-build-image} VERSION=$VERSION\`"
}

native_platform() {
    case $(uname -m) in
        x86_64 | amd64) echo linux/amd64 ;;
        aarch64 | arm64) echo linux/arm64 ;;
        *) fail "no image for the architecture '$(uname -m)'; use an amd64 or arm64 machine" "$EXIT_ENVIRONMENT" ;;
    esac
}
