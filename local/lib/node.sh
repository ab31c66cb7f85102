# A node: a network namespace, a mount namespace, and in them a containerd, a kubelet and a kube-proxy.
# shellcheck shell=bash
#
# In its mount namespace the usual folders (/run, /var/lib/kubelet, …) are the node's own ones, kept in $STATE/nodes/NAME/fs.
# So three containerds and kubelets run with the paths they have everywhere else, nothing of them appears on the host, and
# when the last process of a node is gone the kernel removes the namespace with every mount in it.

NODE_FOLDERS='/run /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers /var/local-path-provisioner'

node_dir() { echo "$STATE/nodes/$1"; }
node_names() { local d; for d in "$STATE"/nodes/*/index; do [ ! -e "$d" ] || basename "$(dirname "$d")"; done; }
node_index() { cat "$(node_dir "$1")/index"; }
node_exists() { [ -e "$(node_dir "$1")/index" ]; }
node_record() { echo "$(node_dir "$1")/$2.process"; }
node_running() { local p; for p in containerd kubelet proxy; do is_running "$(node_record "$1" $p)" || return 1; done; }
node_ctr() { local name=$1; shift; ctr -a "$(node_dir "$name")/fs/run/containerd/containerd.sock" -n k8s.io "$@"; }

cni_plugins() {
  local d
  for d in /usr/lib/cni /opt/cni/bin; do [ ! -x $d/ptp ] || { echo $d; return; }; done
  die "the CNI plugins (ptp, host-local, portmap) are neither in /usr/lib/cni nor in /opt/cni/bin"
}

# Without CAP_SYS_RESOURCE nobody may lower an OOM score, as containerd and the kubelet do; both can be told.
limited() { (( (0x$(awk '/^CapEff/ {print $2}' /proc/self/status) >> 24 & 1) == 0 )); }

make_node_files() { # name zone index
  local name=$1 zone=$2 index=$3 dir d limited=false
  dir=$(node_dir "$name")
  if limited; then limited=true; fi
  mkdir -p "$dir/cni" "$dir/imported" "$dir/log"
  for d in $NODE_FOLDERS; do mkdir -p "$dir/fs$d"; done
  make_certificate "$name" "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:$(node_ip "$index")"
  make_kubeconfig "$dir/kubeconfig" "$name"
  # ptp routes every packet through the node, so a pod that calls a ClusterIP of a pod beside it needs no br_netfilter.
  cat >"$dir/cni/10-kagami.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "kagami", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(node_pods "$index")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat >"$dir/containerd.toml" <<TOML
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  restrict_oom_score_adj = $limited
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_plugins)"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
TOML
  cat >"$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/$name.crt
tlsPrivateKeyFile: $STATE/pki/$name.key
address: $(node_ip "$index")
healthzPort: 10248
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: $STATE/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /kagami/$name
failCgroupV1: false
failSwapOn: false
featureGates: {KubeletInUserNamespace: $limited}
# The whole machine belongs to every node; nothing is held back and nothing is evicted before the disk is full.
enforceNodeAllocatable: []
evictionHard: {memory.available: "1Mi", nodefs.available: "0.5%", imagefs.available: "0.5%"}
imageGCHighThresholdPercent: 100
maxPods: 200
# Seconds are measured here, so nothing waits for its turn.
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 16
registryPullQPS: 0
serializeImagePulls: false
eventRecordQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
shutdownGracePeriod: 0s
YAML
  cat >"$dir/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
mode: iptables
clusterCIDR: $POD_RANGE
hostnameOverride: $name
# These settings of the kernel are the host's and not to be touched.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  # The first program of a node, in its fresh mount namespace. "shared" with nobody but itself, as containers expect.
  cat >"$dir/boot" <<SH
#!/bin/sh
set -e
mount --make-rshared /
for d in $NODE_FOLDERS; do mount --bind "$dir/fs\$d" "\$d"; done
exec containerd -c "$dir/containerd.toml"
SH
  chmod +x "$dir/boot"
  echo "$zone" >"$dir/zone"
  echo "$index" >"$dir/index"     # last: a node without it is not there
}

# The mount points must be on the host. Those that were not get a mark in them, by which they are recognised and removed again,
# whatever has become of the state folder.
MOUNT_POINT_MARK=.made-by-kagami-local
make_mount_points() {
  local d
  for d in $NODE_FOLDERS; do
    [ -d "$d" ] || { mkdir -p "$d"; touch "$d/$MOUNT_POINT_MARK"; }
  done
}
remove_mount_points() {
  local d
  for d in $NODE_FOLDERS; do
    [ -e "$d/$MOUNT_POINT_MARK" ] || continue
    rm -f "$d/$MOUNT_POINT_MARK"
    # Not empty: somebody else uses it by now.
    rmdir "$d" 2>/dev/null || true
  done
}

# Containerd and the images need no apiserver, so this half runs beside its start.
start_machine_runtime() { # name
  local name=$1 dir ns
  dir=$(node_dir "$name") ns=$(node_netns "$name")
  # As after a power cycle: /run is empty, the pods' network namespaces and addresses are gone.
  rm -rf "$dir/fs/run" "$dir/fs/var/lib/cni"
  mkdir -p "$dir/fs/run" "$dir/fs/var/lib/cni"
  make_cgroup "kagami/$name/machine"
  network_attach "$name" "$(node_index "$name")"
  # nsenter, because `ip netns exec` mounts a fresh /sys in which the cgroups are missing.
  start_process "$(node_record "$name" containerd)" "$dir/log/containerd.log" "kagami/$name/machine" \
    nsenter --net="/run/netns/$ns" unshare --mount --propagation private "$dir/boot"
  wait_for 30 "containerd of $name" node_ctr "$name" version || { tail -n 20 "$dir/log/containerd.log" >&2; die "containerd of $name does not answer"; }
}

start_machine_kubelet() { # name
  local name=$1 dir zone bin pid
  dir=$(node_dir "$name") zone=$(cat "$(node_dir "$name")/zone") bin=$(program_dir kubernetes)
  pid=$(pid_of "$(node_record "$name" containerd)")
  start_process "$(node_record "$name" kubelet)" "$dir/log/kubelet.log" "kagami/$name/machine" \
    nsenter -t "$pid" --net --mount "$bin/kubelet" --config="$dir/kubelet.yaml" --kubeconfig="$dir/kubeconfig" \
    --hostname-override="$name" --node-ip="$(node_ip "$(node_index "$name")")" --cert-dir=/var/lib/kubelet/pki \
    --node-labels="topology.kubernetes.io/zone=$zone,topology.kubernetes.io/region=${zone%?}"
  start_process "$(node_record "$name" proxy)" "$dir/log/proxy.log" "kagami/$name/machine" \
    nsenter -t "$pid" --net --mount "$bin/kube-proxy" --config="$dir/proxy.yaml"
}

# The power is cut: off the network first, so that no peer hears a connection close, then everything dies at once.
cut_power() { # name
  local name=$1
  network_detach "$name"
  empty_cgroup "kagami/$name"
  rm -f "$(node_record "$name" containerd)" "$(node_record "$name" kubelet)" "$(node_record "$name" proxy)"
  # Removing the groups is no hurry for a fault, but the next start wants them fresh.
  remove_cgroup "kagami/$name"
}

# Imports the archives this node does not have yet (or has in an older version).
import_images() { # name [beginning of the archives' names]
  local name=$1 dir tar stamp
  dir=$(node_dir "$name")
  for tar in "$STATE"/images/"${2:-}"*.tar; do
    [ -e "$tar" ] || continue
    stamp=$(stat -L -c '%s %Y %i' "$tar")
    [ "$(cat "$dir/imported/${tar##*/}" 2>/dev/null)" != "$stamp" ] || continue
    node_ctr "$name" image import "$tar" >>"$dir/log/images.log" 2>&1 || { tail -n 5 "$dir/log/images.log" >&2; warn "$name could not import $tar"; return 1; }
    echo "$stamp" >"$dir/imported/${tar##*/}"
  done
}

node_ready() { [ "$(k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]; }
nodes_not_ready() { # names that are not Ready
  local ready; ready=$(k get nodes -o 'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' 2>/dev/null) || { echo unknown; return; }
  local name; for name in "$@"; do grep -qx "$name=True" <<<"$ready" || echo "$name"; done
}
all_nodes_ready() { [ -z "$(nodes_not_ready "$@")" ]; }
