# The driver for a machine with Docker and kind. UNPROVEN: no such machine was at hand when it was written.
# shellcheck shell=bash
#
# kind names its nodes; node-1, node-2 and node-3 are understood as its three workers, and so are their own names.

KIND_NAME=kagami
KIND_CONFIG=$STATE-kind/kubeconfig

kind_k() { docker exec -i "$KIND_NAME-control-plane" kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"; }

need_kind() {
  command -v docker >/dev/null && docker info >/dev/null 2>&1 || die 'CLUSTER=kind needs a Docker that runs'
  command -v kind >/dev/null || die 'CLUSTER=kind needs kind (https://kind.sigs.k8s.io)'
}

container_of() { # node-N or a name of kind's
  local name=$1
  case $1 in node-1) name=$KIND_NAME-worker ;; node-2) name=$KIND_NAME-worker2 ;; node-3) name=$KIND_NAME-worker3 ;; esac
  docker inspect "$name" >/dev/null 2>&1 || die "there is no machine $1"
  echo "$name"
}

kind_config() {
  local zone
  cat <<'YAML'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  nodeStatusUpdateFrequency: 4s
  nodeLeaseDurationSeconds: 16
  serializeImagePulls: false
  kubeAPIQPS: 100
  kubeAPIBurst: 200
nodes:
- role: control-plane
YAML
  for zone in 1a 1c 1d; do
    printf -- '- role: worker\n  labels: {topology.kubernetes.io/region: ap-northeast-1, topology.kubernetes.io/zone: ap-northeast-%s}\n' $zone
  done
}

driver_up() {
  need_kind
  if kind get clusters 2>/dev/null | grep -qx $KIND_NAME; then
    local c; for c in $(kind get nodes --name $KIND_NAME); do docker start "$c" >/dev/null; done
    mkdir -p "$(dirname "$KIND_CONFIG")"
    kind get kubeconfig --name $KIND_NAME >"$KIND_CONFIG"
  else
    warn 'the kind driver is unproven'
    mkdir -p "$(dirname "$KIND_CONFIG")"
    kind_config | kind create cluster --name $KIND_NAME --kubeconfig "$KIND_CONFIG" --wait 180s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"} --config -
    # In the static Pod's manifest, because the form of kubeadm's extraArgs depends on its version. The kubelet restarts it.
    docker exec $KIND_NAME-control-plane sed -i 's/^\( *\)- kube-controller-manager$/&\n\1- --node-monitor-period=2s\n\1- --node-monitor-grace-period=16s/' /etc/kubernetes/manifests/kube-controller-manager.yaml
    say 'making the Python client image'
    docker build -q -t localhost/kagami/python-redis:latest - <<DOCKERFILE
FROM python:3.11-slim
RUN pip install --no-cache-dir $PYTHON_WHEELS
DOCKERFILE
    kind load docker-image --name $KIND_NAME localhost/kagami/python-redis:latest
  fi
  kind_k wait --for=condition=Ready nodes --all --timeout=180s >/dev/null
  say "the cluster is up; export KUBECONFIG=$KIND_CONFIG"
}
driver_down() { need_kind; kind delete cluster --name $KIND_NAME; rm -rf "$(dirname "$KIND_CONFIG")"; }
driver_kubeconfig() { echo "$KIND_CONFIG"; }
driver_status() { need_kind; kind_k get nodes -L topology.kubernetes.io/zone; }
driver_images() { public_engine_images; }      # kind's nodes pull them
driver_load_image() { local tar; need_kind; for tar in "$@"; do kind load image-archive --name $KIND_NAME "$tar"; done; }

signal_on_node() { # signal namespace pod container pattern
  local node id dir
  need_kind
  read -r node id <<<"$(kind_k -n "$2" get pod "$3" -o "jsonpath={.spec.nodeName} {.status.containerStatuses[?(@.name==\"$4\")].containerID}{.status.initContainerStatuses[?(@.name==\"$4\")].containerID}")"
  [ -n "$id" ] || die "the pod $2/$3 has no started container $4"
  dir=$(docker exec "$node" find /sys/fs/cgroup -type d -name "*${id#containerd://}*" -print -quit)
  [ -n "$dir" ] || die "the container $4 of $2/$3 is not running on $node"
  docker exec "$node" sh -c "$SIGNAL_SCRIPT" sh "$dir" "$5" "${1#SIG}"
}
driver_kill_process() { signal_on_node "${5:-KILL}" "${@:1:4}"; }
driver_pause_process() { signal_on_node STOP "$@"; }
driver_resume_process() { signal_on_node CONT "$@"; }

# Off the network before it is killed, so that no dying process can say goodbye.
driver_crash_machine() { local c; need_kind; c=$(container_of "$1"); unplug "$c"; docker kill "$c" >/dev/null; say "$1 is gone"; }
driver_start_machine() {
  local c; need_kind; c=$(container_of "$1")
  plug "$c"; docker start "$c" >/dev/null
  kind_k wait --for=condition=Ready "node/$c" --timeout=120s >/dev/null
  say "$1 is back"
}
# The address is kept: the node is registered with it.
unplug() {
  docker inspect -f '{{.NetworkSettings.Networks.kind.IPAddress}}' "$1" >"$STATE-kind/address-$1"
  docker network disconnect -f kind "$1"
}
plug() {
  local address; address=$(cat "$STATE-kind/address-$1" 2>/dev/null || true)
  docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$1" | grep -qw kind || docker network connect ${address:+--ip "$address"} kind "$1"
}
driver_silence_machine() { need_kind; unplug "$(container_of "$1")"; say "$1 is silent"; }
driver_return_machine() { need_kind; plug "$(container_of "$1")"; say "$1 is heard again"; }

driver_restart_apiserver() {
  local tries
  need_kind
  docker exec $KIND_NAME-control-plane pkill -KILL kube-apiserver
  sleep 1
  for tries in $(seq 120); do
    if kind_k get --raw /readyz >/dev/null 2>&1; then say "the apiserver is back ($tries)"; return; fi
    sleep 1
  done
  die 'the apiserver does not come back'
}
