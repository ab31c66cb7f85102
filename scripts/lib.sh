# Sourced by the scripts of the Makefile: where things are kept, and how progress is told.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${KAGAMI_CACHE:-$HOME/.cache/kagami}
export KAGAMI_CACHE=$CACHE
# One folder for every clone, so that a fresh one finds the dependencies compiled.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
export CLUSTER=${CLUSTER:-local}
IMAGE=${IMAGE:-ghcr.io/kagami-operator/kagami:0.1.0}
NAMESPACE=${NAMESPACE:-kagami-system}
RELEASE=${RELEASE:-kagami}
# When the whole command began, also when `make` calls several scripts.
export KAGAMI_BEGAN=${KAGAMI_BEGAN:-$(date +%s)}

elapsed() { local s=$(($(date +%s) - KAGAMI_BEGAN)); printf '%02d:%02d' $((s / 60)) $((s % 60)); }
say() { printf '[%s] %s\n' "$(elapsed)" "$*" >&2; }
die() { printf '[%s] error: %s\n' "$(elapsed)" "$*" >&2; exit 1; }

# The path of helm or kubectl: what $HELM or $KUBECTL say, the cluster's own for the local one, else the user's if there is one.
tool() { # name
  local said=${1^^}
  if [ -n "${!said:-}" ]; then echo "${!said}"; return; fi
  if [ "$CLUSTER" != local ] && command -v "$1" >/dev/null; then command -v "$1"; else "$ROOT/local/cluster" tool "$1"; fi
}

kubeconfig() { "$ROOT/local/cluster" kubeconfig; }

# Everything below talks to this cluster and to no other, whatever the user's own context is.
use_cluster() {
  KUBECONFIG=$(kubeconfig); export KUBECONFIG
  HELM=$(tool helm); KUBECTL=$(tool kubectl)
  export HELM KUBECTL
  k() { "$KUBECTL" "$@"; }
  helm() { "$HELM" "$@"; }
}
