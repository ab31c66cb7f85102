# The network of the cluster: a switch (a bridge in a network namespace of its own) to which the host and the nodes are plugged.
# shellcheck shell=bash
#
#   host     kagami0 172.30.0.1      the control plane listens here
#   node N   eth0    172.30.0.(10+N) pods 10.244.N.0/24, routed
#
# The bridge is not in the host's namespace, so a host firewall (Docker sets FORWARD to DROP) has no say between nodes, no
# setting of the host is changed, and deleting the namespaces removes every interface and route.

SWITCH=kagami-switch
HOST_LINK=kagami0
HOST_IP=172.30.0.1
SERVICE_RANGE=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
POD_RANGE=10.244.0.0/16

node_netns() { echo "kagami-$1"; }
node_ip() { echo "172.30.0.$((10 + $1))"; }       # index
node_pods() { echo "10.244.$1.0/24"; }             # index

switch_up() {
  ip netns add $SWITCH
  ip -n $SWITCH link add switch type bridge forward_delay 0
  ip -n $SWITCH link set switch up
  ip link add $HOST_LINK type veth peer name host netns $SWITCH
  ip -n $SWITCH link set host master switch up
  ip addr add $HOST_IP/24 dev $HOST_LINK
  ip link set $HOST_LINK up
}

# Plugs a node in and tells it and all others the ways to each other's pods.
network_attach() { # name index
  local name=$1 index=$2 ns ip other other_index
  ns=$(node_netns "$name") ip=$(node_ip "$index")
  ip netns add "$ns"
  ip -n $SWITCH link add "$name" type veth peer name eth0 netns "$ns"
  ip -n $SWITCH link set "$name" master switch up
  ip -n "$ns" addr add "$ip/24" dev eth0
  ip -n "$ns" link set lo up
  ip -n "$ns" link set eth0 up
  ip -n "$ns" route add default via $HOST_IP
  # Namespaced, so this is the node's own forwarding; `ip netns exec` mounts a fresh /sys, which does not matter for one write.
  ip netns exec "$ns" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  ip route replace "$(node_pods "$index")" via "$ip" dev $HOST_LINK
  for other in $(node_names); do
    [ "$other" != "$name" ] && [ -e "/run/netns/$(node_netns "$other")" ] || continue
    other_index=$(node_index "$other")
    ip -n "$ns" route replace "$(node_pods "$other_index")" via "$(node_ip "$other_index")" 2>/dev/null || true
    ip -n "$(node_netns "$other")" route replace "$(node_pods "$index")" via "$ip" 2>/dev/null || true
  done
}

# The link is cut before anything is killed, so that no dying process can say goodbye.
network_detach() { # name
  ip -n $SWITCH link del "$1" 2>/dev/null || true
  ip netns del "$(node_netns "$1")" 2>/dev/null || true
}

network_silence() { ip -n $SWITCH link set "$1" down; }
network_return() { ip -n $SWITCH link set "$1" up; }
network_is_silent() { ip -n $SWITCH link show "$1" 2>/dev/null | grep -q 'state DOWN'; }

# Everything of ours, whether or not a record of it is left.
network_down() {
  local ns
  for ns in $(ip netns list 2>/dev/null | awk '$1 ~ /^kagami-/ {print $1}'); do ip netns del "$ns" 2>/dev/null || true; done
  ip link del $HOST_LINK 2>/dev/null || true
}
