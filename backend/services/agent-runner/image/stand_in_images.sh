#!/usr/bin/env bash
# Makes stand-ins for the images that the build starts from, for machines that reach no public registry, and
# pushes them: stand_in_images.sh REGISTRY UV_BINARY
# Out of Debian's packages: Python 3.11 in /usr/local, for amd64 and arm64, and uv. For tests; Debian 12 and root.
# The same packages give the same digests, so that what the engines have built on them before is found again.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=SCRIPTDIR/engine.sh
. engine.sh

readonly registry=$1 uv_binary=$2
readonly suite=bookworm
export SOURCE_DATE_EPOCH=1704067200 # mmdebstrap and passwd's programs write it for the time of day
readonly excluded=(/usr/share/man /usr/share/locale /usr/share/info)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
native=$(dpkg --print-architecture)
if [[ $native == amd64 ]]; then foreign=arm64; else foreign=amd64; fi

triplet() { # architecture
    if [[ $1 == amd64 ]]; then echo x86_64-linux-gnu; else echo aarch64-linux-gnu; fi
}

make_native() {
    local options=()
    for path in "${excluded[@]}"; do
        options+=(--dpkgopt="path-exclude=$path/*")
    done
    mmdebstrap --quiet --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "${options[@]}" \
        --include=ca-certificates,netbase,tzdata,usr-is-merged,python3.11,python3.11-venv \
        $suite "$work/$native" >/dev/null
    move_python "$work/$native" "$work/$native"
    chroot "$work/$native" dpkg --purge --force-depends python3 python3-minimal python3.11 python3.11-minimal \
        python3.11-venv libpython3.11-stdlib libpython3.11-minimal libpython3-stdlib python3-distutils \
        python3-lib2to3 media-types >/dev/null 2>&1
    forget_when "$work/$native"
}

# What tells when and where it was made. Without compiled modules, as the official image: they hold a file's time.
forget_when() { # directory
    find "$1/usr" -depth -name __pycache__ -exec rm -r {} +
    find "$1/var/log" "$1/var/cache/debconf" "$1/var/cache/apt" "$1/var/lib/apt/lists" -type f -delete
    rm -f "$1"/var/cache/ldconfig/aux-cache "$1"/var/lib/dpkg/*-old "$1"/etc/*-
}

# The official image has its Python in /usr/local.
move_python() { # from, to
    rm -rf "$2/usr/local/lib/python3.11"
    mkdir -p "$2/usr/local/bin" "$2/usr/local/lib"
    cp -a "$1/usr/bin/python3.11" "$2/usr/local/bin/"
    cp -a "$1/usr/lib/python3.11" "$2/usr/local/lib/"
    ln -sf python3.11 "$2/usr/local/bin/python3"
    ln -sf python3.11 "$2/usr/local/bin/python"
}

# Packages of the other architecture over a copy: configuring them there would take minutes of emulation.
make_foreign() {
    local from=$work/$native to=$work/$foreign names info archive
    cp -a "$from" "$to"
    rm -rf "$to/usr/lib/$(triplet "$native")" "$to"/usr/lib64/ld-linux*
    mapfile -t names < <(dpkg-query --admindir="$from/var/lib/dpkg" --show --showformat '${Architecture} ${Package}\n' |
        sed -n "s/^$native //p")
    download_foreign "${names[@]}" python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
    for archive in "$work"/archives/*.deb; do
        case ${archive##*/} in
            *python3.11-*) unpack "$archive" "$work/python" ;;
            *) unpack "$archive" "$to" ;;
        esac
    done
    move_python "$work/python" "$to"
    sed -i "s/^Architecture: $native\$/Architecture: $foreign/" "$to/var/lib/dpkg/status"
    for info in "$to"/var/lib/dpkg/info/*":$native".*; do
        mv "$info" "${info/:$native./:$foreign.}"
    done
    sed -i "s/$(triplet "$native")/$(triplet "$foreign")/g" "$to"/var/lib/dpkg/info/*.list
}

download_foreign() { # packages
    local options=(-qq "-oAPT::Architecture=$foreign" "-oAPT::Architectures=$foreign" "-oDir::State=$work/apt"
        -oAPT::Sandbox::User=root -oAcquire::Languages=none -oDir::State::status=/dev/null "-oDir::Cache=$work/apt"
        -oDir::Etc::sourceparts=/dev/null "-oDir::Etc::sourcelist=$work/$native/etc/apt/sources.list")
    mkdir -p "$work/apt/lists/partial" "$work/archives" "$work/python"
    apt-get "${options[@]}" update
    (cd "$work/archives" && apt-get "${options[@]}" download "$@")
}

unpack() { # archive, directory
    dpkg-deb --fsys-tarfile "$1" |
        tar --extract --keep-directory-symlink --directory "$2" "${excluded[@]/#/--exclude=.}" 2>/dev/null
}

# With one time for the image and all of its files; OCI's form names no machine and no container, as Docker's does.
make_image() { # architecture, name, directory
    podman build --quiet --pull=never --no-cache --timestamp $SOURCE_DATE_EPOCH --format oci --platform "linux/$1" \
        --tag "$2" --ignorefile /dev/null --file - "$3" <<<$'FROM scratch\nCOPY . /' >/dev/null
}

push_python() {
    local index=localhost/stand-in-python architecture
    podman manifest rm $index >/dev/null 2>&1 || true
    podman manifest create $index >/dev/null
    for architecture in "$native" "$foreign"; do
        make_image "$architecture" "localhost/stand-in-python-$architecture" "$work/$architecture"
        podman manifest add $index "containers-storage:localhost/stand-in-python-$architecture" >/dev/null
    done
    podman manifest push --quiet --all --format v2s2 --tls-verify=false $index "docker://$registry/python:3.11-slim" >/dev/null
    podman manifest rm $index >/dev/null
    podman rmi "localhost/stand-in-python-$native" "localhost/stand-in-python-$foreign" >/dev/null
}

push_uv() {
    mkdir "$work/uv"
    cp "$uv_binary" "$work/uv/"
    make_image "$native" "$registry/uv:stand-in" "$work/uv"
    podman push --quiet --format v2s2 --tls-verify=false "$registry/uv:stand-in" >/dev/null
}

((EUID == 0)) || fail 'the stand-ins are made by root' "$EXIT_ENVIRONMENT"
make_native
make_foreign
push_python
push_uv
