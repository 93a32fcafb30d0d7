#!/bin/bash
# Install the Debian packages that a purpose needs, if any is missing.
#   scripts/deps.sh build|test|cluster|e2e|lint|fuzz|bench|demo|image ...
# Nothing it installs starts to run: the daemons among them are started by the tests themselves.
set -euo pipefail

# PACKAGE, unless PROGRAM came from somewhere else.
unless_there() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || echo "$2"
}

packages_for() {
    case $1 in
    build) echo gcc libc6-dev binutils libjsmn-dev dpkg-dev debian-archive-keyring ca-certificates ;;
    test) echo "$(packages_for build)" libcmocka-dev python3 python3-venv dovecot-core \
        dovecot-pop3d dnsmasq-base curl openssl libssl-dev telnet valgrind libc6-dbg procps \
        qemu-system-x86 "$(unless_there node nodejs)" "$(unless_there npm npm)" ;;
    cluster) unless_there go golang-go ;;
    e2e) echo "$(packages_for test)" iproute2 iptables mount util-linux ;;
    lint) echo "$(packages_for build)" libcmocka-dev clang-14 clang-format-14 clang-tidy-14 python3 ;;
    fuzz) echo "$(packages_for build)" clang-14 libclang-rt-14-dev llvm-14 ;;
    bench) echo "$(packages_for build)" python3 dovecot-core dovecot-pop3d haproxy nginx-light \
        libnginx-mod-mail perdition openssl libssl-dev strace procps ;;
    image) echo "$(packages_for build)" buildah ;;
    demo) echo "$(packages_for build)" dovecot-core dovecot-pop3d telnet python3 procps ;;
    *)
        echo "deps.sh: unknown purpose '$1' (build, test, cluster, e2e, lint, fuzz, bench, demo," \
            "image)" >&2
        exit 2
        ;;
    esac
}

wanted=
for purpose in "${@:-build}"; do
    wanted+=" $(packages_for "$purpose")"
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "deps.sh: not a Debian system; needed are what these packages hold:$wanted" >&2
    exit 0
fi

# Names on stdin that are not installed.
missing() {
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
        sed -n 's/^installed //p')
    tr ' ' '\n' | sort -u | grep -v '^$' | grep -vxF -f <(printf '%s\n' "$installed") || true
}

mapfile -t absent < <(missing <<<"$wanted")
[ ${#absent[@]} -gt 0 ] || exit 0

# One at a time; who had to wait looks again.
exec 9>"${TMPDIR:-/tmp}/tproxy-deps-$(id -u).lock"
flock 9
mapfile -t absent < <(missing <<<"$wanted")
[ ${#absent[@]} -gt 0 ] || exit 0

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# While this file exists and answers 101, packages start no daemon (it is Debian's own switch).
guard=/usr/sbin/policy-rc.d
guarded=no
said=$(mktemp)
clean_up() {
    rm -f "$said"
    [ $guarded = no ] || as_root rm -f $guard
}
trap clean_up EXIT
if [ ! -e $guard ]; then
    guarded=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $guard >/dev/null
    as_root chmod 755 $guard
fi

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@" </dev/null 9>&-
}

# Another apt on this machine may hold the lists for a while.
update() {
    for _ in 1 2 3 4 5 6; do
        apt_get update >"$said" 2>&1 && return 0
        grep -q 'Could not get lock' "$said" || break
        sleep 10
    done
    cat "$said" >&2
    echo "deps.sh: apt-get update failed; going on with the lists that are there" >&2
}

echo "deps.sh: installing ${absent[*]}" >&2
update
apt_get install --no-install-recommends "${absent[@]}" >"$said" 2>&1 || {
    cat "$said" >&2
    echo "deps.sh: could not install ${absent[*]}" >&2
    exit 1
}
