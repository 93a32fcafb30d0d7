#!/bin/bash
# Build mbedTLS 3.6 with our configuration and print where it is: DIR/include, DIR/lib/libmbedtls.a.
#   scripts/build-mbedtls.sh [--newest] lib/mbedtls_config.h
# The source is Debian's newest of the 3.6 line; with --newest it is looked for even if one is there.
# Sources and results stay in ${XDG_CACHE_HOME:-~/.cache}/tproxy, so that `make clean` costs nothing.
# lib/gcm_alt.h, beside the configuration, goes into DIR/include, and mbedTLS's own AES-GCM into
# DIR/lib/reference_gcm.o, for the tests: its functions are called reference_gcm_...
# Environment: CC; GCM=mbedtls for mbedTLS's own AES-GCM in the library, too; DEBIAN_MIRROR when it is
# not to be the mirror which this machine's apt uses.
set -euo pipefail

line=3.6
# Before 3.6.7 a server of TLS 1.2 that signs with RSA-PSS, as OpenSSL does, could not be spoken to.
oldest=3.6.7
cc=${CC:-gcc}
flags=(-O2 -g -std=c99 -fPIE -ffunction-sections -fdata-sections -fstack-protector-strong
    -D_FORTIFY_SOURCE=2 -Wall -Wno-unused-function)
own_gcm=-DTPROXY_GCM_MBEDTLS
[ "${GCM:-}" != mbedtls ] || flags+=("$own_gcm")

newest=no
if [ "${1:-}" = --newest ]; then
    newest=yes
    shift
fi
config=$(realpath "$1")
gcm=$(dirname "$config")/gcm_alt.h
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tproxy
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

die() {
    echo "build-mbedtls.sh: $*" >&2
    exit 1
}

# An apt of our own: it knows Debian's source packages and nothing of the machine's lists.
work=$cache/apt
private_apt() {
    APT_CONFIG=$work/apt.conf "$@"
}

# $1: keyring, $2: suite.
make_apt() {
    rm -rf "$work"
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/etc"
    cat >"$work/apt.conf" <<EOF
Dir::State "$work/state";
Dir::State::status "/dev/null";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "-";
Acquire::Languages "none";
APT::Sandbox::User "$(id -un)";
EOF
    echo "deb-src [signed-by=$1] $mirror $2 main" >"$work/etc/sources.list"
}

# The mirror of Debian which this machine uses.
find_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 2>/dev/null |
        grep -E '/debian/?$' | head -n 1 || true
}

# The newest keyring which this machine's apt can fetch, verified with the one it has; for a suite
# whose key is younger than the installed package.
newer_keyring() {
    mkdir -p "$cache/keyring"
    (cd "$cache/keyring" && rm -rf ./* &&
        apt-get -qq -o APT::Sandbox::User="$(id -un)" download debian-archive-keyring >&2 &&
        dpkg-deb -x debian-archive-keyring_*.deb .)
    echo "$cache/keyring/usr/share/keyrings/debian-archive-keyring.gpg"
}

# $1: suite. True when its list was fetched and its signature is good.
fetch_list() {
    make_apt /usr/share/keyrings/debian-archive-keyring.gpg "$1"
    private_update && return 0
    grep -q 'NO_PUBKEY\|EXPKEYSIG' "$work/said" || return 1
    echo "build-mbedtls.sh: trying again with the newest debian-archive-keyring" >&2
    make_apt "$(newer_keyring)" "$1"
    private_update
}

private_update() {
    private_apt apt-get -qq update -o APT::Update::Error-Mode=any 2>&1 | tee "$work/said" >&2
}

# The newest version of our line among the lists, or nothing.
newest_version() {
    local version best=
    while read -r version; do
        if dpkg --compare-versions "$version" ge "$oldest" &&
            { [ -z "$best" ] || dpkg --compare-versions "$version" gt "$best"; }; then
            best=$version
        fi
    done < <(private_apt apt-cache showsrc --only-source mbedtls |
        sed -n "s/^Version: \\($line\\..*\\)/\\1/p")
    echo "$best"
}

fetch_source() {
    local version="" suite
    command -v dpkg-source >/dev/null || die "dpkg-source is missing (scripts/deps.sh build)"
    mirror=${DEBIAN_MIRROR:-$(find_mirror)}
    [ -n "$mirror" ] || die "this machine's apt names no mirror of Debian; set DEBIAN_MIRROR," \
        "or MBEDTLS to the prefix of an mbedTLS $line built with our configuration"
    # The first of these suites that has one has the newest; one that cannot be had (expired, say,
    # on a mirror that stands still) is left out.
    for suite in sid forky trixie; do
        if ! fetch_list $suite; then
            echo "build-mbedtls.sh: no list of source packages of $suite" >&2
            continue
        fi
        version=$(newest_version)
        [ -z "$version" ] || break
    done
    [ -n "$version" ] || die "no mbedtls $line.x from $oldest on in Debian's sid, forky, trixie"
    if [ ! -e "$cache/source/$version/ready" ]; then
        rm -rf "$cache/source/$version"
        mkdir -p "$cache/source/$version"
        (cd "$cache/source/$version" &&
            private_apt apt-get -qq --only-source source "mbedtls=$version" >&2 &&
            mv mbedtls-*/ tree && touch ready)
    fi
    rm -rf "$work" "$cache/keyring"
}

have_source() {
    find "$cache/source" -mindepth 2 -maxdepth 2 -name ready 2>/dev/null |
        sed 's,/ready$,,; s,.*/,,' | sort -V | tail -n 1
}

if [ $newest = yes ] || [ -z "$(have_source)" ]; then
    fetch_source
fi
version=$(have_source)
tree=$cache/source/$version/tree

key=$({
    cat "$config" "$gcm" "$0"
    echo "${GCM:-}"
    "$cc" -dumpfullversion -dumpmachine
} | sha256sum | cut -c 1-12)
prefix=$cache/mbedtls-$version-$key
if [ ! -e "$prefix/ready" ]; then
    echo "build-mbedtls.sh: building mbedTLS $version" >&2
    rm -rf "$prefix"
    mkdir -p "$prefix/lib" "$prefix/include" "$prefix/obj"
    cp -r "$tree/include/mbedtls" "$tree/include/psa" "$gcm" "$prefix/include/"
    flags+=(-DMBEDTLS_CONFIG_FILE="\"$config\"" -I"$prefix/include" -I"$tree/library")
    find "$tree/library" -name '*.c' -printf '%f\n' | sed 's/\.c$//' |
        xargs -P 2 -I{} "$cc" "${flags[@]}" -c "$tree/library/{}.c" -o "$prefix/obj/{}.o"
    ar rcs "$prefix/lib/libmbedtls.a" "$prefix"/obj/*.o
    grep -o '\bmbedtls_gcm_[a-z_]*(' "$tree/include/mbedtls/gcm.h" | tr -d '(' | sort -u |
        sed 's/mbedtls\(.*\)/-D&=reference\1/' |
        xargs "$cc" "${flags[@]}" "$own_gcm" -c "$tree/library/gcm.c" -o "$prefix/lib/reference_gcm.o"
    rm -rf "$prefix/obj"
    echo "$version" >"$prefix/version"
    touch "$prefix/ready"
fi
echo "$prefix"
