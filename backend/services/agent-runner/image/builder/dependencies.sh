#!/bin/sh
# Installs the locked dependencies for the target into /dependencies, with the bytecode of what the runner uses.
set -eu
# shellcheck source=SCRIPTDIR/environment.sh
. /builder/environment.sh

sync_environment "$environment" --no-install-workspace --python-platform "$target_platform"
if [ "$importable" != "$environment" ]; then
    sync_environment "$importable" --no-install-workspace
fi

for site_packages in "$environment"/lib/python3*/site-packages "$importable"/lib/python3*/site-packages; do
    # For people who build, check and read code.
    rm -rf "$site_packages/temporalio/bridge/sdk-core" "$site_packages/temporalio/bridge/src" \
        "$site_packages"/google-stubs "$site_packages"/grpc-stubs
    find "$site_packages" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.rs' \
        -o -name '*.md' ! -path '*.dist-info/*' \) -delete
    # Only for taking packages out again.
    find "$site_packages" -path '*.dist-info/*' \( -name RECORD -o -name INSTALLER -o -name REQUESTED \) -delete
    find "$site_packages" -type d \( -name tests -o -name benchmarks -o -name .agents \) -prune -exec rm -rf {} +
done
find "$environment/lib" -name '*.so' -exec strip-target --strip-unneeded {} +
# Programs of the dependencies, for people too; but for the one that the file tools search with.
find "$environment/bin" -mindepth 1 ! -name 'python*' ! -name rg -delete
strip-target --strip-unneeded "$environment/bin/rg"
mkdir -p /dependencies/usr/local/bin
ln -s "$environment/bin/rg" /dependencies/usr/local/bin/rg
rm -f "$environment/.lock" "$environment/.gitignore"

mkdir -p /dependencies/opt
cp -a "$environment" /dependencies/opt/
find /usr/local/lib -type d -name __pycache__ -prune -exec rm -rf {} +
# What is missing here is compiled with the application: a larger top layer, and no harm else.
compile_modules /dependencies anthropic.resources.beta.messages anyio._backends._asyncio encodings.idna genai_prices \
    mcp openai.resources.chat openai.resources.responses psutil pydantic_ai pydantic_ai.models.anthropic \
    pydantic_ai.models.openai temporalio.contrib.pydantic temporalio.worker yaml
