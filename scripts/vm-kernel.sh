#!/bin/bash
# Fetch Debian's kernel for virtual machines, which some tests boot, and print its path.
#   scripts/vm-kernel.sh
# The package is taken apart and not installed. The result stays in
# ${XDG_CACHE_HOME:-~/.cache}/tproxy, so that `make clean` costs nothing.
# Environment: VM_KERNEL, a bootable kernel that has what it needs built in: nothing is fetched then.
set -euo pipefail

if [ -n "${VM_KERNEL:-}" ]; then
    echo "$VM_KERNEL"
    exit 0
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tproxy
mkdir -p "$cache"
exec 9>"$cache/kernel.lock"
flock 9

result=$cache/vm-kernel
if [ ! -e "$result" ]; then
    work=$(mktemp -d "$cache/kernel.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
    [ -n "$package" ] || {
        echo "vm-kernel.sh: apt knows no linux-image-cloud-amd64; run apt-get update, or set VM_KERNEL" >&2
        exit 1
    }
    (cd "$work" && apt-get -q -y download "$package" >&2)
    dpkg-deb --extract "$work"/*.deb "$work/tree"
    mv "$work"/tree/boot/vmlinuz-* "$result"
fi
echo "$result"
