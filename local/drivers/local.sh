# The driver for a machine without Docker: real Kubernetes programs, three nodes as namespaces of this one machine. Needs root.
# shellcheck shell=bash

. "$LOCAL_DIR/lib/processes.sh"
. "$LOCAL_DIR/lib/cgroups.sh"
. "$LOCAL_DIR/lib/network.sh"
. "$LOCAL_DIR/lib/certificates.sh"
. "$LOCAL_DIR/lib/control-plane.sh"
. "$LOCAL_DIR/lib/node.sh"
. "$LOCAL_DIR/lib/images.sh"

NODES='node-1=ap-northeast-1a node-2=ap-northeast-1c node-3=ap-northeast-1d'

# There is one local cluster per machine (names of links and cgroups are fixed), so there is one lock.
lock() {
  [ "$(id -u)" = 0 ] || die "the local cluster makes namespaces and cgroups and needs root (or use CLUSTER=kind)"
  case $STATE in /run/*|/var/run/*) die "KAGAMI_STATE may not be below /run: the nodes have a /run of their own" ;; esac
  exec 9>/run/kagami-local.lock
  flock -n 9 || { say 'another local/cluster is at work, waiting for it …'; flock 9; }
}

need_up() {
  [ -e "$STATE/kubeconfig" ] && control_plane_running || die "the cluster is not up; start it with: local/cluster up"
}
need_node() { node_exists "$1" || die "there is no machine $1 (there are: $(node_names | tr '\n' ' '))"; }

# --- up ---------------------------------------------------------------------------------------------------------------

prepare() {
  need_packages containerd=containerd runc=runc containernetworking-plugins=/usr/lib/cni/ptp iptables=iptables conntrack=conntrack \
    iproute2=ip openssl=openssl util-linux=nsenter kmod=modprobe python3=python3 buildah=buildah
  local p
  for p in kubernetes etcd coredns local-path-provisioner; do build_program $p; done
  build_images
}

fingerprint() { sha256sum <"$LOCAL_DIR/versions" | cut -d' ' -f1; }

# The archives every node gets: links to the cache, so that a changed image is noticed and a new node gets what the others have.
gather_images() {
  mkdir -p "$STATE/images"
  local group archive
  find "$STATE/images" -name 'made-*.tar' -xtype l -delete
  for group in cluster engines clients; do
    images_py list $group | while IFS=$'\t' read -r _ archive; do ln -sfn "$archive" "$STATE/images/made-$group-${archive##*/}"; done
  done
}

side_by_side() { # function names… — runs the function for every name at once
  local function=$1 pids=() p failed=; shift
  for p in "$@"; do "$function" "$p" & pids+=($!); done
  for p in "${pids[@]}"; do wait "$p" || failed=yes; done
  [ -z "$failed" ]
}

boot_node() { start_machine_runtime "$1" && import_images "$1"; }
# The first pods must find their images, or they wait out a back-off; the engines' may follow while the node registers.
boot_node_for_system_pods() { start_machine_runtime "$1" && import_images "$1" made-cluster-; }

apply_manifests() {
  sed -e "s/@COREDNS_VERSION@/$COREDNS_VERSION/; s/@LOCAL_PATH_PROVISIONER_VERSION@/$LOCAL_PATH_PROVISIONER_VERSION/; s/@BUSYBOX_VERSION@/$BUSYBOX_VERSION/; s/@DNS_IP@/$DNS_IP/" \
    "$LOCAL_DIR/manifests/dns.yaml" <(echo ---) "$LOCAL_DIR/manifests/storage.yaml" | quietly "$STATE/log/manifests.log" k apply --server-side -f -
}

system_pods_ready() {
  local dns storage
  read -r dns storage <<<"$(k get --raw /apis/apps/v1/namespaces/kube-system/daemonsets/coredns 2>/dev/null | python3 -c 'import json,sys; s=json.load(sys.stdin)["status"]; print(s.get("numberReady",0))' 2>/dev/null || echo 0) $(k -n local-path-storage get deployment local-path-provisioner -o 'jsonpath={.status.readyReplicas}' 2>/dev/null)"
  [ "${dns:-0}" -ge "$(node_names | wc -l)" ] && [ "${storage:-0}" -ge 1 ]
}

# True when the cluster is up as it should be, perhaps after machines that a test has crashed or silenced were brought back.
heal() {
  local name pair since broken=()
  [ -e "$STATE/kubeconfig" ] && [ "$(cat "$STATE/fingerprint" 2>/dev/null)" = "$(fingerprint)" ] || return 1
  control_plane_running && wait_for 10 'the apiserver' apiserver_ready || return 1
  for pair in $NODES; do
    node_exists "${pair%%=*}" || add_node "${pair%%=*}" "${pair#*=}"
  done
  for name in $(node_names); do
    if ! node_running "$name"; then broken+=("$name"); continue; fi
    if network_is_silent "$name"; then say "$name is silent; returning it"; network_return "$name"; fi
  done
  since=$(date -u +%Y-%m-%dT%H:%M:%S)
  for name in "${broken[@]}"; do say "$name is not running; starting it"; revive "$name"; done
  for name in "${broken[@]}"; do wait_for 60 "$name" node_back "$name" "$since" || return 1; done
  # shellcheck disable=SC2046
  wait_for 60 'the nodes' all_nodes_ready $(node_names) || return 1
  gather_images
  # shellcheck disable=SC2046
  side_by_side import_images $(node_names) || return 1
  system_pods_ready || wait_for 60 'the system pods' system_pods_ready || return 1
}

driver_up() {
  lock
  if [ -e "$STATE/kubeconfig" ] || [ -d "$STATE" ]; then
    if heal; then say 'the cluster is up'; return; fi
    say 'what is there is not healthy; clearing it away'
  fi
  prepare
  clear_everything
  fresh_cluster
  say "the cluster is up; export KUBECONFIG=$STATE/kubeconfig"
}

fresh_cluster() {
  local pair name index=0 names=()
  mkdir -p "$STATE/log" "$STATE/processes" "$STATE/nodes"
  chmod 755 "$STATE"
  # Names outside the cluster are nobody's business here; an empty list of servers would mean localhost.
  grep '^nameserver' /etc/resolv.conf >"$STATE/resolv.conf" 2>/dev/null || echo "nameserver $HOST_IP" >"$STATE/resolv.conf"
  make_mount_points
  switch_up
  gather_images
  start_control_plane
  for pair in $NODES; do
    index=$((index + 1)) name=${pair%%=*}
    make_node_files "$name" "${pair#*=}" $index
    names+=("$name")
  done
  # Three containerds unpack their images while the apiserver starts.
  side_by_side boot_node_for_system_pods "${names[@]}" || die 'a node did not start'
  say 'containerd ready'
  side_by_side import_images "${names[@]}" &
  local importing=$!
  finish_control_plane
  say 'control plane ready'
  apply_manifests
  for name in "${names[@]}"; do start_machine_kubelet "$name"; done
  wait_for 60 'the nodes' all_nodes_ready "${names[@]}" || die "nodes are not ready: $(nodes_not_ready "${names[@]}" | tr '\n' ' ')($STATE/nodes/*/log/kubelet.log)"
  say "nodes ready: ${names[*]}"
  wait "$importing" || die 'not every node has its images'
  say 'images imported'
  wait_for 90 'the system pods' system_pods_ready || { k get pods -A >&2 || true; die 'CoreDNS or the volume provisioner does not become ready'; }
  fingerprint >"$STATE/fingerprint"
}

# --- down -------------------------------------------------------------------------------------------------------------

# Also for what a cluster that died, or of which only half the state folder is left, has left behind.
clear_everything() {
  local record d
  for record in "$STATE"/processes/* "$STATE"/nodes/*/*.process; do
    if [ -e "$record" ] && is_running "$record"; then kill -KILL "$(pid_of "$record")" 2>/dev/null || true; fi
  done
  empty_cgroup kagami || true
  remove_cgroup kagami
  network_down
  # Nothing of ours is mounted in the host's namespace; if something is (a start that was cut short), it is below the state folder.
  for d in $(awk -v at="$STATE/" 'index($2, at) == 1 {print $2}' /proc/mounts | sort -r); do umount -l "$d" 2>/dev/null || true; done
  remove_mount_points
  rm -rf "$STATE"
}

driver_down() {
  lock
  clear_everything
  say 'the cluster is down'
}

driver_kubeconfig() { echo "$STATE/kubeconfig"; }

driver_status() {
  local c name p state
  if [ ! -e "$STATE/kubeconfig" ]; then echo 'the cluster is down'; return 1; fi
  for c in $CONTROL_PLANE; do
    if is_running "$(control_plane_record "$c")"; then state="running, pid $(pid_of "$(control_plane_record "$c")")"; else state='not running'; fi
    printf '%-20s %s\n' "$c" "$state"
  done
  for name in $(node_names); do
    state=
    for p in containerd kubelet proxy; do is_running "$(node_record "$name" $p)" || state+="${state:+, }no $p"; done
    if [ -e "$(node_dir "$name")/crashed" ]; then state='crashed'
    elif [ -z "$state" ] && network_is_silent "$name"; then state='silent'; fi
    printf '%-20s %s, %s\n' "$name" "$(cat "$(node_dir "$name")/zone")" "${state:-running}"
  done
  control_plane_running && k get nodes -L topology.kubernetes.io/zone
}

# --- images -----------------------------------------------------------------------------------------------------------

driver_load_image() {
  local tar tags names=() name
  lock; need_up
  for tar in "$@"; do
    [ -f "$tar" ] || die "there is no archive $tar"
    # Kept under the names of the images in it: a newer build takes the place of the older one, and a machine that is added or
    # comes back later gets it too.
    tags=$(tar -xOf "$tar" manifest.json 2>/dev/null || tar -xOf "$tar" index.json 2>/dev/null) || die "$tar is no image archive (neither manifest.json nor index.json in it)"
    tags=$(python3 -c 'import json,sys
m = json.loads(sys.argv[1])
print(*sorted(t for i in m for t in i.get("RepoTags") or [])) if isinstance(m, list) else print(*sorted(i.get("annotations", {}).get("io.containerd.image.name") or i.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for i in m["manifests"]))' "$tags")
    name=$STATE/images/loaded-$(sha256sum <<<"${tags:-${tar##*/}}" | cut -c1-16).tar
    if [ "$(stat -L -c '%s %Y' "$tar")" != "$(stat -c '%s %Y' "$name" 2>/dev/null)" ]; then
      cp --preserve=timestamps --reflink=auto "$tar" "$name.partial"
      mv "$name.partial" "$name"
    fi
  done
  for name in $(node_names); do if is_running "$(node_record "$name" containerd)"; then names+=("$name"); fi; done
  side_by_side import_images "${names[@]}" || die 'not every node has the image'
  say "loaded into ${names[*]}: $*"
}

# --- faults -----------------------------------------------------------------------------------------------------------

# The processes of a container, by its cgroup, whose command line matches; "pid1" is the first process of its PID namespace.
container_processes() { # namespace pod container pattern
  local node id dir pid line statuses tries
  # A container runs, and may have spoken, a while before the kubelet says so.
  for tries in $(seq 20); do
    read -r node statuses <<<"$(k -n "$1" get pod "$2" -o 'jsonpath={.spec.nodeName} {range .status.containerStatuses[*]}{.name}={.containerID} {end}{range .status.initContainerStatuses[*]}{.name}={.containerID} {end}{range .status.ephemeralContainerStatuses[*]}{.name}={.containerID} {end}')"
    [ -n "$node" ] || die "the pod $1/$2 is not there, or not on a node yet"
    id=$(tr ' ' '\n' <<<"$statuses" | sed -n "s|^$3=containerd://||p")
    [ -z "$id" ] && [ "$tries" -lt 20 ] || break
    sleep 0.5
  done
  [ -n "$id" ] || die "the pod $1/$2 has no started container $3"
  dir=$(find "$(cgroup_tracking)/kagami/$node" -type d -name "$id" -print -quit 2>/dev/null)
  [ -n "$dir" ] || die "the container $3 of $1/$2 is not running on $node"
  for pid in $(find "$dir" -name cgroup.procs -exec cat {} +); do
    if [ "$4" = pid1 ]; then
      [ "$(awk '/^NSpid:/ {print $NF}' "/proc/$pid/status" 2>/dev/null)" = 1 ] || continue
    else
      line=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || continue
      [[ $line =~ $4 ]] || continue
    fi
    echo "$pid"
  done
}

signal_processes() { # signal namespace pod container pattern
  local signal=$1 pids; shift
  need_up
  pids=$(container_processes "$@")
  [ -n "$pids" ] || die "no process of $1/$2, container $3, matches: $4"
  # shellcheck disable=SC2086
  kill "-${signal#SIG}" $pids || die "could not send $signal to: $pids"
  echo "$pids"
}

driver_kill_process() { signal_processes "${5:-KILL}" "${@:1:4}"; }
driver_pause_process() { signal_processes STOP "$@"; }
driver_resume_process() { signal_processes CONT "$@"; }

driver_crash_machine() {
  lock; need_node "$1"
  touch "$(node_dir "$1")/crashed"
  cut_power "$1"
  say "$1 is gone"
}

revive() { # name
  cut_power "$1"
  boot_node "$1" || die "$1 did not start"
  start_machine_kubelet "$1"
  rm -f "$(node_dir "$1")/crashed"
}

# The node object still says what it said before; only a lease that was renewed since tells that the kubelet is back.
node_back() { # name since
  local renewed; renewed=$(k -n kube-node-lease get lease "$1" -o 'jsonpath={.spec.renewTime}' 2>/dev/null) || return 1
  [[ $renewed > $2 ]] && node_ready "$1"
}

driver_start_machine() {
  local since
  lock; need_up; need_node "$1"
  if node_running "$1"; then say "$1 is running"; return; fi
  since=$(date -u +%Y-%m-%dT%H:%M:%S)
  revive "$1"
  wait_for 60 "$1" node_back "$1" "$since" || die "$1 does not become ready ($(node_dir "$1")/log/kubelet.log)"
  say "$1 is back"
}

driver_silence_machine() { need_node "$1"; network_silence "$1"; say "$1 is silent"; }
driver_return_machine() { need_node "$1"; network_return "$1"; say "$1 is heard again"; }

# The port may still be held for a moment by threads of the one that was killed; then the new one ends at once.
apiserver_ready_or_started_again() {
  apiserver_ready && return
  is_running "$(control_plane_record apiserver)" || start_control_plane_process apiserver
  return 1
}

driver_restart_apiserver() {
  lock; need_up
  stop_process "$(control_plane_record apiserver)" KILL
  start_control_plane_process apiserver
  wait_for 90 'the apiserver' apiserver_ready_or_started_again || die "the apiserver does not come back ($STATE/log/apiserver.log)"
  say 'the apiserver is back'
}

add_node() { # name zone
  local index=1
  while grep -qx $index "$STATE"/nodes/*/index 2>/dev/null; do index=$((index + 1)); done
  [ $index -lt 200 ] || die 'no address is left for another machine'
  # Ahead of an interrupted attempt, the folder may be there without an index.
  rm -rf "$(node_dir "$1")"
  make_node_files "$1" "$2" $index
  revive "$1"
}

driver_add_machine() {
  lock; need_up
  [[ $1 =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ && ${#1} -le 14 ]] || die "a machine's name has at most 14 small letters, digits and dashes: $1"
  ! node_exists "$1" || die "there is a machine $1 already"
  case $1 in switch|host|kagami*|control-plane) die "the name $1 is taken" ;; esac
  add_node "$1" "$2"
  wait_for 60 "$1" node_ready "$1" || die "$1 does not become ready ($(node_dir "$1")/log/kubelet.log)"
  say "$1 is ready in $2"
}

driver_remove_machine() {
  local index other
  lock; need_up; need_node "$1"
  index=$(node_index "$1")
  cut_power "$1"
  quietly "$STATE/log/remove-machine.log" k delete node "$1" --ignore-not-found
  ip route del "$(node_pods "$index")" 2>/dev/null || true
  rm -rf "$(node_dir "$1")" "$STATE/pki/$1".*
  for other in $(node_names); do ip -n "$(node_netns "$other")" route del "$(node_pods "$index")" 2>/dev/null || true; done
  say "$1 is removed"
}
