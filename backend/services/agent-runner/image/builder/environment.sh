# What the installing steps share: where things are, for which architecture, and whom to trust.
# shellcheck shell=sh disable=SC2034 # read by the scripts that source this

environment=/opt/agent-runner
builder_architecture=$(dpkg --print-architecture)
target_architecture=$(dpkg-query --admindir=/target/var/lib/dpkg --show --showformat '${Architecture}' libc6)
case $target_architecture in
    amd64) target_triplet=x86_64-linux-gnu ;;
    arm64) target_triplet=aarch64-linux-gnu ;;
    *)
        echo "error: no image for architecture '$target_architecture'; the base image must be amd64 or arm64" >&2
        exit 2
        ;;
esac
target_platform=$(echo "$target_triplet" | sed 's/-linux/-unknown-linux/')

# The target's modules where they can be imported, else the same for this machine.
importable=$environment
if [ "$target_architecture" != "$builder_architecture" ]; then
    importable=/native
fi

# A private authority comes as a build secret, which no layer holds.
if [ -s /run/secrets/ca.crt ]; then
    export SSL_CERT_FILE=/run/secrets/ca.crt
fi

sync_environment() { # directory, further arguments
    UV_PROJECT_ENVIRONMENT=$1
    export UV_PROJECT_ENVIRONMENT
    shift
    uv sync --frozen --no-dev --no-editable --package stigmer-agent-runner --extra traces --python /usr/local/bin/python3 "$@"
}

compile_modules() { # output directory, further arguments
    output=$1
    shift
    "$importable/bin/python" /builder/bytecode.py --environment "$environment" --output "$output" "$@"
}
