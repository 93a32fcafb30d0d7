#!/bin/bash
# Build programs of a Kubernetes cluster for the tests and print the directory that holds them.
#   scripts/build-cluster.sh         etcd, kube-apiserver, kubectl: the control plane
#   scripts/build-cluster.sh node    kube-controller-manager, kube-proxy, CoreDNS: the rest
# The sources are the Go modules that tests/cluster/go.mod and go.sum name. The results stay in
# ${XDG_CACHE_HOME:-~/.cache}/tproxy, so that `make clean` costs nothing.
# Go keeps 4 GB of its own besides; `go clean -cache -modcache` gives them back.
# Any Go will do to begin with: one that is too old fetches the one it takes, as a module.
# Environment: KUBEBUILDER_ASSETS, a directory with the programs of the control plane: these are not
# built then.
set -euo pipefail

part=${1:-cluster}
if [ "$part" = cluster ] && [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    echo "$KUBEBUILDER_ASSETS"
    exit 0
fi

die() {
    echo "build-cluster.sh: $*" >&2
    exit 1
}

self=$(realpath "$0")
cd "$(dirname "$self")/../tests/cluster"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tproxy

# The version that go.mod gives: of Go, of its toolchain, of a module.
version_of() {
    sed -n "s,^\\s*$1 \\(\\S*\\).*,\\1,p" go.mod
}
kubernetes=$(version_of k8s.io/kubernetes)
key=$(cat go.mod go.sum "$self" coredns/* | sha256sum | cut -c 1-12)
case $part in
cluster) programs=(go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/{kube-apiserver,kubectl}) ;;
node) programs=(k8s.io/kubernetes/cmd/{kube-controller-manager,kube-proxy} ./coredns) ;;
*) die "unknown part '$part': it may be 'node', or absent" ;;
esac
result=$cache/$part-$kubernetes-$key

if [ -e "$result" ]; then
    echo "$result"
    exit 0
fi
mkdir -p "$cache"
exec 9>"$cache/$part.lock"
flock 9

# Puts a Go that can build this module first in PATH.
find_go() {
    command -v go >/dev/null || die "there is no Go; install one of any version (golang-go)," \
        "or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl (not for" \
        "the programs of a node)"
    local have toolchain root
    have=$(go env GOVERSION)
    if printf '%s\n' "go$(version_of go)" "$have" | sort --version-sort --check=quiet; then
        return
    fi
    toolchain=golang.org/toolchain@v0.0.1-$(version_of toolchain).$(go env GOOS)-$(go env GOARCH)
    root=$(go env GOMODCACHE)/$toolchain
    echo "build-cluster.sh: $have is too old, fetching $(version_of toolchain)" >&2
    (cd / && go mod download "$toolchain")
    # Modules carry no permission to execute.
    chmod a+x "$root"/bin/* "$root"/pkg/tool/*/*
    PATH=$root/bin:$PATH
}

if [ ! -e "$result" ]; then
    # No other Go than the one found, no C compiler, and nothing from around this directory.
    export GOTOOLCHAIN=local CGO_ENABLED=0 GOWORK=off
    find_go
    echo "build-cluster.sh: building $part of Kubernetes $kubernetes, which takes minutes" >&2
    rm -rf "$result.new"
    mkdir "$result.new"
    nice go build -buildvcs=false -o "$result.new/" -ldflags "-s -w
        -X k8s.io/component-base/version.gitVersion=$kubernetes
        -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes" "${programs[@]}"
    [ "$part" = node ] || mv "$result.new/server" "$result.new/etcd"
    mv "$result.new" "$result"
fi
echo "$result"
