#!/bin/sh
# Installs what the builder itself needs: a strip and a readelf that understand the target's files.
set -eu
# shellcheck source=SCRIPTDIR/environment.sh
. /builder/environment.sh

if [ -s /run/secrets/ca.crt ]; then
    echo 'Acquire::https::CaInfo "/run/secrets/ca.crt";' >/etc/apt/apt.conf.d/99private-authority
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "binutils-$(echo "$target_triplet" | tr _ -)"
ln -s "/usr/bin/$target_triplet-strip" /usr/local/bin/strip-target
ln -s "/usr/bin/$target_triplet-readelf" /usr/local/bin/readelf
