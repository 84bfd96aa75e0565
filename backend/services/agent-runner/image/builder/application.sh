#!/bin/sh
# Installs the runner and the libraries of this repository with their bytecode into /application, so that a changed source file
# changes one small layer.
set -eu
# shellcheck source=SCRIPTDIR/environment.sh
. /builder/environment.sh

list_files() {
    (cd "$environment" && find . -type f -o -type l | sort)
}

list_files >/tmp/before
sync_environment "$environment" --python-platform "$target_platform"
# When it was installed, and what is only for taking it out again.
find "$environment"/lib/python3*/site-packages -path '*.dist-info/*' \
    \( -name uv_cache.json -o -name RECORD -o -name INSTALLER -o -name REQUESTED -o -name direct_url.json \) -delete
list_files >/tmp/after
if [ "$importable" != "$environment" ]; then
    sync_environment "$importable"
fi

mkdir -p "/application$environment" /application/usr/local/bin
comm -13 /tmp/before /tmp/after | tar -C "$environment" -c -T - | tar -C "/application$environment" -x
ln -s "$environment/bin/agent-runner" /application/usr/local/bin/agent-runner
cp LICENSE "/application$environment/LICENSE"
compile_modules /application --package agent_runner --package stigmer_contract --package stigmer_isolation
