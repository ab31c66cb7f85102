# Builds the programs of the cluster from their Go modules and keeps them in the cache, one folder per version.
# shellcheck shell=bash

# What a program is made of: its version, the packages to build, the linker flags that make it tell its version, and how long
# the first build takes (two cores; a warm Go build cache makes it seconds).
describe_program() { # name -> sets version packages flags duration binaries
  local v
  case $1 in
    kubernetes)
      version=$KUBERNETES_VERSION duration='about 10 minutes'
      binaries='kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl'
      packages=$(printf 'k8s.io/kubernetes/cmd/%s ' $binaries)
      flags=
      for v in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $v.gitVersion=v$version -X $v.gitMajor=${version%%.*} -X $v.gitMinor=$(cut -d. -f2 <<<"$version") -X $v.gitTreeState=clean"
      done ;;
    etcd)
      version=$ETCD_VERSION duration='about a minute' binaries=etcd
      packages=go.etcd.io/etcd/server/v3 flags= ;;
    coredns)
      version=$COREDNS_VERSION duration='about 3 minutes' binaries=coredns
      packages=github.com/coredns/coredns flags= ;;
    local-path-provisioner)
      version=$LOCAL_PATH_PROVISIONER_VERSION duration='about 2 minutes' binaries=local-path-provisioner
      packages=github.com/rancher/local-path-provisioner flags="-X main.VERSION=v$version" ;;
    helm)
      version=$HELM_VERSION duration='about 3 minutes' binaries=helm
      packages=helm.sh/helm/v4/cmd/helm flags="-X helm.sh/helm/v4/internal/version.version=v$version" ;;
    *) die "no such program: $1 (kubernetes, etcd, coredns, local-path-provisioner, helm)" ;;
  esac
}

PROGRAMS='kubernetes etcd coredns local-path-provisioner helm'

program_dir() { # name
  local version packages flags duration binaries
  describe_program "$1"
  echo "$CACHE/programs/$1-$version"
}

# Builds a program unless it is there. The folder gets its name only when everything in it is finished, and the marker says
# from which inputs: an interrupted build, or a changed go.sum, is built again.
build_program() { # name
  local name=$1 version packages flags duration binaries dir mark began
  describe_program "$name"
  dir=$CACHE/programs/$name-$version
  mark=$(cat "$LOCAL_DIR/programs/$name/go.mod" "$LOCAL_DIR/programs/$name/go.sum" <(echo "$packages $flags") | sha256sum | cut -d' ' -f1)
  [ "$(cat "$dir/complete" 2>/dev/null)" != "$mark" ] || return 0
  command -v go >/dev/null || die "Go is needed to build $name $version; install it (1.24 or later) and try again"
  mkdir -p "$CACHE/programs" "$CACHE/log"
  # Two builds of the same program would do the work twice; the second one waits and finds it done.
  (
    flock 9
    [ "$(cat "$dir/complete" 2>/dev/null)" != "$mark" ] || exit 0
    say "building $name $version ($duration the first time) …"
    began=$SECONDS
    rm -rf "$dir.building"; mkdir -p "$dir.building"
    # -mod=readonly: what is built is what the committed go.sum pins. An older Go may fetch the toolchain that go.mod asks for.
    # shellcheck disable=SC2086
    (
      cd "$LOCAL_DIR/programs/$name"
      export CGO_ENABLED=0 GOFLAGS='-mod=readonly -trimpath -buildvcs=false' GOTOOLCHAIN=auto GOWORK=off
      # Kubernetes alone leaves some ten gigabytes of compiled packages that nobody needs again.
      export GOCACHE=$dir.gocache
      quietly "$CACHE/log/$name.log" go build -ldflags "-s -w $flags" -o "$dir.building/" $packages
    )
    # A main package at the root of a /v3 module is named after the folder above the version.
    if [ "$name" = etcd ] && [ -e "$dir.building/server" ]; then mv "$dir.building/server" "$dir.building/etcd"; fi
    local b
    for b in $binaries; do [ -x "$dir.building/$b" ] || die "the build of $name left no $b"; done
    echo "$mark" >"$dir.building/complete"
    rm -rf "$dir" "$dir.gocache"; mv "$dir.building" "$dir"
    say "built $name $version in $((SECONDS - began))s"
  ) 9>"$CACHE/programs/$name.lock"
}

# The path of one program, built on demand.
tool_path() { # binary
  local name
  case $1 in
    kube-*|kubectl|kubelet) name=kubernetes ;;
    etcd|coredns|helm|local-path-provisioner) name=$1 ;;
    *) die "no such tool: $1 (kubectl, helm, etcd, coredns, kubelet, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy)" ;;
  esac
  build_program "$name"
  echo "$(program_dir "$name")/$1"
}
