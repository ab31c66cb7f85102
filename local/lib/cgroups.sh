# The cgroups of the cluster, on cgroup v1 (also hybrid) and v2. Everything the cluster runs lives below one group, /kagami,
# so what a dead cluster left behind can be told from everything else on the machine.
# shellcheck shell=bash
#
#   /kagami/control-plane      etcd, apiserver, …
#   /kagami/NODE/machine       containerd, its shims, kubelet, kube-proxy
#   /kagami/NODE/kubepods/…    made by the kubelet
#
# Only cgroup v1 could be tried while this was written; the v2 part follows the kernel's documentation.

CGROUPS=/sys/fs/cgroup

cgroup_v2() { [ -e $CGROUPS/cgroup.controllers ]; }

# The roots of all hierarchies. On v1 several names may be links to one hierarchy (cpu -> cpu,cpuacct); links are skipped.
cgroup_roots() {
  local d
  if cgroup_v2; then echo $CGROUPS; return; fi
  for d in $CGROUPS/*/; do
    d=${d%/}
    if [ ! -L "$d" ] && [ -e "$d/tasks" ]; then echo "$d"; fi
  done
}

# The hierarchy by which processes are found.
cgroup_tracking() {
  if cgroup_v2; then echo $CGROUPS; return; fi
  local name
  for name in pids systemd memory; do
    [ ! -e $CGROUPS/$name/tasks ] || { echo $CGROUPS/$name; return; }
  done
  die "no cgroup hierarchy to keep track of processes was found in $CGROUPS"
}

# Makes a group in every hierarchy, with all its ancestors.
make_cgroup() { # path below the root, e.g. kagami/node-1
  local root part at controllers f
  for root in $(cgroup_roots); do
    at=$root
    for part in ${1//\// }; do
      if cgroup_v2; then
        # A child has only the controllers its parent hands on.
        for controllers in cpu cpuset memory pids io hugetlb; do echo "+$controllers" >"$at/cgroup.subtree_control" 2>/dev/null || true; done
      fi
      mkdir -p "$at/$part"
      if [ "${root##*/}" = cpuset ]; then
        # v1: a new cpuset has no processors and no memory, and no process can enter it.
        for f in cpuset.cpus cpuset.mems; do
          [ -n "$(cat "$at/$part/$f")" ] || cat "$at/$f" >"$at/$part/$f"
        done
      fi
      at=$at/$part
    done
  done
}

enter_cgroup() { echo "$BASHPID" >"$(cgroup_tracking)/$1/cgroup.procs"; }

# Every process in a group and below it.
cgroup_processes() { # path
  local dir; dir=$(cgroup_tracking)/$1
  [ -d "$dir" ] || return 0
  find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# Kills everything in a group, again until nobody is left: a process may fork between the reading and the killing.
empty_cgroup() { # path
  local tries pids
  for tries in $(seq 100); do
    pids=$(cgroup_processes "$1")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    [ "$tries" -lt 3 ] || sleep 0.1
  done
  warn "processes in the cgroup $1 do not end: $(tr '\n' ' ' <<<"$pids")"
  return 1
}

remove_cgroup() { # path
  local root tries
  # On a hybrid machine the runtime also makes (empty) groups in the v2 hierarchy beside the v1 ones.
  for root in $(cgroup_roots) $CGROUPS/unified; do
    for tries in 1 2 3 4 5 6 7 8 9 10; do
      [ -d "$root/$1" ] || break
      find "$root/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ ! -d "$root/$1" ] || sleep 0.1
    done
    [ ! -d "$root/$1" ] || warn "the cgroup $root/$1 could not be removed"
  done
}
