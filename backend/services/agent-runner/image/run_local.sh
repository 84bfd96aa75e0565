#!/usr/bin/env bash
# Runs the image on this machine as the person who calls it, locked down, on the host's network.
# Environment: VERSION, IMAGE, VARIANT, CONTAINER; the runner's own variables are passed on by name, so that no value
# stands in the process list.
set -euo pipefail
# shellcheck source=SCRIPTDIR/engine.sh
. "$(dirname "$0")/engine.sh"

# What the runner reads; a test holds this list to its settings. Those of the second are secrets, for which
# NAME_FILE may name a file instead.
readonly variables=(
    MODE TEMPORAL_SERVICE_ADDRESS TEMPORAL_NAMESPACE TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE TEMPORAL_MAX_CONCURRENCY
    TEMPORAL_TLS TEMPORAL_TLS_SERVER_NAME STIGMER_BACKEND_ENDPOINT STIGMER_LLM_PROVIDER STIGMER_LLM_MODEL
    STIGMER_LLM_BASE_URL STIGMER_LLM_ENDPOINTS OPENAI_BASE_URL ANTHROPIC_BASE_URL OLLAMA_BASE_URL
    STIGMER_LLM_MAX_TOKENS STIGMER_LLM_TEMPERATURE LOG_LEVEL LOG_FORMAT STIGMER_PROTECT_GIT
    STIGMER_MCP_ALLOW_HOSTS STIGMER_WEB_ALLOW_HOSTS
    STIGMER_HEALTH_HOST STIGMER_HEALTH_PORT STIGMER_DRAIN_GRACE_SECONDS STIGMER_ISOLATION STIGMER_ISOLATION_READ_PATHS
    STIGMER_ISOLATION_WEB_PORTS STIGMER_ISOLATION_PROXY STIGMER_ISOLATION_PROCESSES STIGMER_ISOLATION_MEMORY_MB
    STIGMER_ISOLATION_DISK_MB OTEL_EXPORTER_OTLP_ENDPOINT
)
readonly secrets=(
    TEMPORAL_API_KEY STIGMER_TOKEN STIGMER_LLM_API_KEY OPENAI_API_KEY ANTHROPIC_API_KEY OTEL_EXPORTER_OTLP_HEADERS
)
readonly files=(
    TEMPORAL_TLS_CLIENT_CERT_PATH TEMPORAL_TLS_CLIENT_KEY_PATH TEMPORAL_TLS_SERVER_CA_CERT_PATH SSL_CERT_FILE
)
readonly proxies=(HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy)

readonly DEFAULT_HEALTH_PORT=7235 PORTS_TRIED=20
# As `stigmer` counts them, which starts the runner's containers otherwise.
readonly LEAST_PROCESSES=640 PROCESSES_PER_EXECUTION=16 RUNNER_CONCURRENCY=200

readonly home=${STIGMER_HOME:-$HOME/.stigmer}
readonly workspace=${WORKSPACE:-$home/data/workspace}

mount_file() { # variable, path: shows the file to the container and tells it where
    [[ -r $2 ]] || fail "$1 is '$2', which cannot be read" "$EXIT_USAGE"
    arguments+=(--volume "$(realpath -- "$2"):/run/secrets/$1:ro" --env "$1=/run/secrets/$1")
}

is_free() { # port
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# On the host's network the runner of a running stack has the default: the next free one then, unless one is named.
choose_health_port() {
    local port
    [[ -z ${STIGMER_HEALTH_PORT:-} ]] || return 0
    for ((port = DEFAULT_HEALTH_PORT; port < DEFAULT_HEALTH_PORT + PORTS_TRIED; port++)); do
        if is_free "$port"; then
            export STIGMER_HEALTH_PORT=$port
            return
        fi
    done
    fail "the ports $DEFAULT_HEALTH_PORT to $((port - 1)) are taken; set STIGMER_HEALTH_PORT" "$EXIT_ENVIRONMENT"
}

check_version
find_engine
reference=$IMAGE:$VERSION$suffix
require_image "$reference"
"$engine" rm --force "$CONTAINER" >/dev/null 2>&1 || true
choose_health_port

arguments=(
    --detach --name "$CONTAINER" --network host
    --read-only --tmpfs "/tmp:size=64m" --cap-drop ALL --security-opt no-new-privileges
    --pids-limit "$((LEAST_PROCESSES + PROCESSES_PER_EXECUTION * ${TEMPORAL_MAX_CONCURRENCY:-$RUNNER_CONCURRENCY}))"
    --volume "$workspace:/workspace"
)
# The files in the workspace shall belong to whoever calls this. Where the engine itself runs as that person,
# the container's root is that person (Docker) or users are mapped by name (Podman).
if [[ $engine_kind == podman ]] && [[ $("$engine" info --format '{{.Host.Security.Rootless}}') == true ]]; then
    arguments+=(--userns keep-id --user "$(id -u):$(id -g)")
elif [[ $engine_kind == docker ]] && [[ $("$engine" info --format '{{.SecurityOptions}}') == *name=rootless* ]]; then
    arguments+=(--user 0:0)
else
    arguments+=(--user "$(id -u):$(id -g)")
    for group in $(id -G); do # by which this person reaches directories of several people
        [[ $group == "$(id -g)" ]] || arguments+=(--group-add "$group")
    done
fi
for name in "${variables[@]}" "${proxies[@]}"; do
    [[ -z ${!name:-} ]] || arguments+=(--env "$name")
done
for name in "${secrets[@]}"; do
    file_variable=${name}_FILE
    if [[ -n ${!file_variable:-} ]]; then
        mount_file "$file_variable" "${!file_variable}"
    elif [[ -n ${!name:-} ]]; then
        arguments+=(--env "$name")
    fi
done
for name in "${files[@]}"; do
    [[ -z ${!name:-} ]] || mount_file "$name" "${!name}"
done
if [[ -z ${STIGMER_TOKEN:-}${STIGMER_TOKEN_FILE:-} ]]; then
    [[ -r $home/run/runner-token ]] ||
        fail "no token for stigmer-server: set STIGMER_TOKEN or STIGMER_TOKEN_FILE, or start the server, which writes '$home/run/runner-token'" "$EXIT_ENVIRONMENT"
    mount_file STIGMER_TOKEN_FILE "$home/run/runner-token"
fi

(umask 077 && mkdir -p -- "$workspace")
"$engine" run "${arguments[@]}" "$reference" >/dev/null || fail "could not start '$CONTAINER' from '$reference'"
echo "started $CONTAINER, its health on port $STIGMER_HEALTH_PORT; \`make logs\` shows what it says"
