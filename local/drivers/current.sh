# The driver for a cluster that is there already: whatever $KUBECONFIG points at. It starts, ends and breaks nothing but processes.
# shellcheck shell=bash

kubeconfig_in_use() { local first=${KUBECONFIG:-${HOME:-/root}/.kube/config}; echo "${first%%:*}"; }
k() { "$(command -v kubectl || tool_path kubectl)" --kubeconfig "$(kubeconfig_in_use)" --request-timeout 30s "$@"; }

driver_up() {
  [ -e "$(kubeconfig_in_use)" ] || die "there is no kubeconfig at $(kubeconfig_in_use)"
  k get --raw /readyz >/dev/null || die "the cluster of $(kubeconfig_in_use) does not answer"
  local zones; zones=$(k get nodes -o 'jsonpath={range .items[*]}{.metadata.labels.topology\.kubernetes\.io/zone}{"\n"}{end}' | sort -u | grep -c . || true)
  [ "$zones" -ge 3 ] || warn "the nodes are in $zones zone(s); tests that need three will wait for ever"
  say 'the cluster answers'
}
driver_down() { say 'this cluster was not started from here and is left as it is'; }
driver_kubeconfig() { kubeconfig_in_use; }
driver_status() { k get nodes -L topology.kubernetes.io/zone; }
driver_images() { public_engine_images; }

# From inside the container, so its image needs a shell, and the kernel protects the first process from SIGKILL and SIGSTOP.
signal_inside() { # signal namespace pod container pattern
  [ "$5" != pid1 ] || die 'the first process of a container cannot be signalled from inside; CLUSTER=current cannot do that'
  k -n "$2" exec "$3" -c "$4" -- sh -c "$SIGNAL_SCRIPT" sh all "$5" "${1#SIG}"
}
driver_kill_process() { signal_inside "${5:-KILL}" "${@:1:4}"; }
driver_pause_process() { signal_inside STOP "$@"; }
driver_resume_process() { signal_inside CONT "$@"; }
