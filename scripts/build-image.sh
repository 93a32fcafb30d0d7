#!/bin/bash
# Build the container image as an OCI archive.
#   scripts/build-image.sh BINARY VERSION ARCHIVE
# The file tree stays beside the archive, in image/rootfs. The times in it are those of the commit, so
# that the same binary and the same certificates give the same image.
set -euo pipefail

binary=$1 version=$2 archive=$(realpath -m "$3")
stage=$(dirname "$archive")/image
certificates=/etc/ssl/certs/ca-certificates.crt
name=localhost/tproxy:$version

rm -rf "$stage"
install -d -m 755 "$stage"/rootfs "$stage"/rootfs/etc/{,logging,ssl,ssl/certs}
install -m 755 -s "$binary" "$stage/rootfs/tproxy"
install -m 644 "$certificates" "$stage/rootfs$certificates"
# Under this name the binary changes the log level of the running one.
ln -s ../../tproxy "$stage/rootfs/etc/logging/change-log-level"

# A storage of our own leaves the user's alone; vfs needs nothing of the kernel.
storage=$(mktemp -d)
trap 'rm -rf "$storage"' EXIT
rm -f "$archive"
buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs build --quiet \
    --build-arg VERSION="$version" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --timestamp "$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
    --tag "oci-archive:$archive:$name" --file Containerfile "$stage" >/dev/null
echo "$3: $name, $(stat -c %s "$archive") bytes"
