# etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as processes of the host.
# shellcheck shell=bash

API_URL=https://$HOST_IP:6443
CONTROL_PLANE='etcd apiserver controller-manager scheduler'

k() { "$(program_dir kubernetes)/kubectl" --kubeconfig "$STATE/kubeconfig" --request-timeout 20s "$@"; }

control_plane_record() { echo "$STATE/processes/$1"; }

start_control_plane_process() { # name
  local bin etcd=http://127.0.0.1:12379 peer=http://127.0.0.1:12380 pki=$STATE/pki
  bin=$(program_dir kubernetes)
  local command=()
  case $1 in
    etcd) command=("$(program_dir etcd)/etcd" --name local --data-dir "$STATE/etcd"
        --listen-client-urls "$etcd" --advertise-client-urls "$etcd"
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "local=$peer"
        --unsafe-no-fsync) ;;  # the data is worth nothing after a power cut: the cluster is made anew
    apiserver) command=("$bin/kube-apiserver" --etcd-servers="$etcd" --advertise-address="$HOST_IP" --bind-address="$HOST_IP" --secure-port=6443
        --cert-dir="$STATE/pki"
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt"
        --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" --kubelet-certificate-authority="$pki/ca.crt"
        --kubelet-preferred-address-types=InternalIP   # node names do not resolve
        --service-account-key-file="$pki/service-accounts.pub" --service-account-signing-key-file="$pki/service-accounts.key"
        --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$SERVICE_RANGE"
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement --allow-privileged=true
        # The host has no kube-proxy: webhooks and aggregated APIs are called at their pods' addresses.
        --enable-aggregator-routing=true
        --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra-
        --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key"
        --profiling=false) ;;
    controller-manager) command=("$bin/kube-controller-manager" --kubeconfig="$STATE/controller-manager.kubeconfig" --cert-dir="$STATE/pki"
        --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" --use-service-account-credentials
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
        --allocate-node-cidrs=false --leader-elect=false --bind-address=127.0.0.1 --profiling=false
        --node-monitor-period=2s --node-monitor-grace-period=16s   # a lost machine is noticed within the patience of a test
        --kube-api-qps=200 --kube-api-burst=400 --concurrent-statefulset-syncs=10) ;;
    scheduler) command=("$bin/kube-scheduler" --kubeconfig="$STATE/scheduler.kubeconfig" --cert-dir="$STATE/pki"
        --leader-elect=false --bind-address=127.0.0.1 --profiling=false --kube-api-qps=200 --kube-api-burst=400) ;;
  esac
  start_process "$(control_plane_record "$1")" "$STATE/log/$1.log" kagami/control-plane "${command[@]}"
}

make_control_plane_files() {
  local c
  make_authority
  make_certificate apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$HOST_IP,IP:$API_SERVICE_IP"
  make_certificate admin /O=system:masters/CN=admin DNS:admin
  make_certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:kubelet-client
  make_certificate front-proxy /CN=front-proxy DNS:front-proxy
  for c in controller-manager scheduler proxy; do
    make_certificate $c /CN=system:kube-$c DNS:$c
    make_kubeconfig "$STATE/$c.kubeconfig" $c
  done
  make_kubeconfig "$STATE/kubeconfig" admin
}

apiserver_ready() { k get --raw /readyz >/dev/null 2>&1; }

start_control_plane() {
  make_cgroup kagami/control-plane
  make_control_plane_files
  start_control_plane_process etcd
  start_control_plane_process apiserver
}

# The controller-manager and the scheduler give up when they find no apiserver, so they come after it.
finish_control_plane() {
  wait_for 90 'the apiserver' apiserver_ready || { tail -n 20 "$STATE/log/apiserver.log" >&2; die "the apiserver does not become ready ($STATE/log/apiserver.log)"; }
  start_control_plane_process controller-manager
  start_control_plane_process scheduler
}

control_plane_running() {
  local c
  for c in $CONTROL_PLANE; do is_running "$(control_plane_record $c)" || return 1; done
}
