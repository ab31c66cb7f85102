#!/usr/bin/env bash
# The walk-through: a CloudFormation template becomes a replication group, and is used from pods as the article behind the
# template uses it from an EC2 instance and a Lambda function. May be run again at any time. Run by `make demo`, which starts
# the cluster and installs the operator first.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../scripts/lib.sh"
cd "$ROOT"
use_cluster

NS=${DEMO_NAMESPACE:-kagami-demo}
TEMPLATE=${DEMO_TEMPLATE:-examples/seed.yaml}
# The template's zones are ${AWS::Region}a and ${AWS::Region}d; our clusters have ap-northeast-1a, -1c and -1d.
REGION=${DEMO_REGION:-ap-northeast-1}
# What redis-cli runs in: any image with redis-cli and a shell. It is the engine's own, so that nothing more is pulled.
CLI_IMAGE=${CLI_IMAGE:-docker.io/library/redis:6.2}
# What the Python client runs in. Our own clusters have an image with redis-py; elsewhere it is installed at the start.
if [ "$CLUSTER" != current ]; then PYTHON_IMAGE=${PYTHON_IMAGE:-localhost/kagami/python-redis:latest}; fi
PYTHON_IMAGE=${PYTHON_IMAGE:-docker.io/library/python:3.13-slim}

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'; else bold='' dim='' green='' plain=''; fi
title() { printf '\n%s[%s] %s%s\n' "$bold" "$(elapsed)" "$*" "$plain"; }
note() { printf '%s        %s%s\n' "$dim" "$*" "$plain"; }
show() { printf '        $ %s\n' "$*"; }
good() { printf '        %s✔ %s%s\n' "$green" "$*" "$plain"; }
bad() { printf '        ✘ %s\n' "$*" >&2; explain; exit 1; }
explain() {
  {
    echo; k -n "$NS" get rg,statefulsets,pods -o wide
    k -n "$NS" describe rg "$GROUP" | sed -n '/^Status/,$p'
    echo "The operator's last words:"; k -n "$NAMESPACE" logs "deployment/$RELEASE" --tail=15
  } >&2 2>&1 || true
}
same() { # what, expected, got
  if [ "$2" = "$3" ]; then good "$1: $3"; else bad "$1: expected $2, got $3"; fi
}

kagami=$CARGO_TARGET_DIR/$(uname -m)-unknown-linux-musl/release/kagami
[ -x "$kagami" ] || die 'no kagami binary; run this through `make demo`'
work=$(mktemp -d "${TMPDIR:-/tmp}/kagami-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

title "The template ($TEMPLATE) becomes manifests"
show "kagami convert $TEMPLATE --region $REGION --namespace $NS"
"$kagami" convert "$TEMPLATE" --region "$REGION" --namespace "$NS" >"$work/manifests.yaml" 2> >(sed 's/^/        /' >&2)
GROUP=$(awk '/^kind: ReplicationGroup$/ {found = 1} found && /^  name: / {print $2; exit}' "$work/manifests.yaml")
[ -n "$GROUP" ] || die 'the manifests hold no ReplicationGroup'
awk '/^kind: / {kind = $2} /^  name: / && kind {print "        " kind " " $2; kind = ""}' "$work/manifests.yaml"

title "They are applied in the namespace $NS, which allows only restricted pods"
k create namespace "$NS" --dry-run=client -o yaml | k apply -f - >/dev/null
k label --overwrite namespace "$NS" pod-security.kubernetes.io/enforce=restricted >/dev/null
began=$(date +%s)
k -n "$NS" apply -f "$work/manifests.yaml" | sed 's/^/        /'

title 'The group becomes available'
last='' deadline=$((began + ${DEMO_TIMEOUT:-240}))
while :; do
  now=$(k -n "$NS" get rg "$GROUP" -o jsonpath='{.status.status} {.status.nodesReady} {.status.reason} {.status.conditions[?(@.type=="Ready")].message}' 2>/dev/null || true)
  if [ "$now" != "$last" ] && [ -n "${now// /}" ]; then note "$(elapsed)  $now"; last=$now; fi
  [ "${now%% *}" != available ] || break
  [ "$(date +%s)" -lt $deadline ] || bad "$GROUP is not available"
  sleep 0.3
done
k -n "$NS" get rg "$GROUP" | sed 's/^/        /'
port=$(k -n "$NS" get configmap "$GROUP-endpoints" -o jsonpath='{.data.REDIS_PORT}')
endpoint=$(k -n "$NS" get configmap "$GROUP-endpoints" -o jsonpath='{.data.CONFIGURATION_ENDPOINT_ADDRESS}')
domain=${endpoint#"$GROUP".}
nodes=$(k -n "$NS" get rg "$GROUP" -o jsonpath='{.status.memberClusters[*]}')
primary=$(k -n "$NS" get rg "$GROUP" -o jsonpath='{.status.nodeGroups[0].nodeGroupMembers[?(@.currentRole=="primary")].cacheClusterId}')
replica=$(k -n "$NS" get rg "$GROUP" -o jsonpath='{.status.nodeGroups[0].nodeGroupMembers[?(@.currentRole=="replica")].cacheClusterId}')
good "available; primary $primary, replica $replica"

# What the group's security group lets in; the clients below carry it.
labels=$(k -n "$NS" get securitygroups -o json | jq -r '
  [.items[].spec.ingress[]?.from.podSelector // {}
    | (.matchLabels // {} | to_entries[]), (.matchExpressions[]? | {key, value: (.values[0]? // "yes")})
    | "    \(.key): \(.value | tojson)"] | unique | .[]')

title 'Two client pods start: one with redis-cli, one with a Python program'
k -n "$NS" create configmap demo-client --from-file=demo/client.py --dry-run=client -o yaml | k -n "$NS" apply -f - >/dev/null
k -n "$NS" delete pod demo-cli demo-python --ignore-not-found --grace-period=0 --force >/dev/null 2>&1
restricted='securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}'
k -n "$NS" apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Pod
metadata:
  name: demo-cli
  labels:
    app.kubernetes.io/name: demo
$labels
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: cli
      image: $CLI_IMAGE
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "exec sleep 3600"]
      resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
      $restricted
---
apiVersion: v1
kind: Pod
metadata:
  name: demo-python
  labels:
    app.kubernetes.io/name: demo
$labels
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: python
      image: $PYTHON_IMAGE
      imagePullPolicy: IfNotPresent
      command: [sh, -c]
      args:
        - |
          python3 -c 'import redis' 2>/dev/null || python3 -m pip install --quiet --target /tmp/packages 'redis>=5,<8'
          PYTHONPATH=/tmp/packages exec python3 -u /demo/client.py
      envFrom: [{configMapRef: {name: $GROUP-endpoints}}]
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 256Mi}}
      $restricted
      volumeMounts: [{name: program, mountPath: /demo, readOnly: true}, {name: tmp, mountPath: /tmp}]
  volumes:
    - {name: program, configMap: {name: demo-client}}
    - {name: tmp, emptyDir: {}}
EOF
k -n "$NS" wait pod/demo-cli --for=condition=Ready --timeout=120s >/dev/null || bad 'the pod demo-cli does not start'
cli() { k -n "$NS" exec demo-cli -c cli -- "$@"; }
# The addresses behind a name, as a pod sees them, by whichever program the image has.
resolve() {
  cli sh -c 'if command -v getent >/dev/null; then getent ahostsv4 "$1" | cut -d" " -f1; else nslookup "$1" 2>/dev/null | sed -n "1,/^Name:/d; s/^Address[^:]*: *\([0-9.]*\).*/\1/p"; fi' - "$1" | sort -u
}

title 'Names'
addresses=$(resolve "$endpoint"); show "nslookup $endpoint"; printf '%s\n' "$addresses" | sed 's/^/        /'
same 'addresses behind the configuration endpoint' "$(wc -w <<<"$nodes")" "$(wc -w <<<"$addresses")"
all=''
for node in $nodes; do
  address=$(resolve "$node.$domain"); show "nslookup $node.$domain"; printf '        %s\n' "$address"
  same "addresses behind $node" 1 "$(wc -w <<<"$address")"
  all+="$address"$'\n'
done
same "the configuration endpoint's addresses are the nodes'" "$(xargs <<<"$addresses")" "$(sort -u <<<"$all" | xargs)"

title 'redis-cli, at the configuration endpoint and at each node'
redis() { cli redis-cli --no-auth-warning -h "$1" -p "$port" "${@:2}" 2>&1; }
show "redis-cli -c -h $endpoint -p $port SET hoge foo"
same 'SET' OK "$(redis "$endpoint" -c SET hoge foo)"
show "redis-cli -c -h $endpoint -p $port GET hoge"
same 'GET' foo "$(redis "$endpoint" -c GET hoge)"
show "redis-cli -h $primary.$domain -p $port GET hoge"
same 'the primary answers' foo "$(redis "$primary.$domain" GET hoge)"
show "redis-cli -h $replica.$domain -p $port GET hoge"
answer=$(redis "$replica.$domain" GET hoge)
primary_address=$(resolve "$primary.$domain")
case $answer in
  *"MOVED 1525 $primary_address:$port"*) good "the replica answers: $answer" ;;
  *) bad "the replica should answer MOVED 1525 $primary_address:$port, and answers: $answer" ;;
esac

title 'Python (redis-py, which knows clusters), with the endpoint from environment variables'
note 'envFrom: the ConfigMap '"$GROUP-endpoints"
for _ in $(seq 600); do
  phase=$(k -n "$NS" get pod demo-python -o jsonpath='{.status.phase}')
  case $phase in Succeeded | Failed) break ;; esac
  sleep 0.2
done
k -n "$NS" logs demo-python | sed 's/^/        /'
same 'the program ended' Succeeded "$phase"

title 'What you have'
cat <<EOF
        configuration endpoint  $endpoint:$port
$(for node in $nodes; do printf '        node endpoint           %s:%s\n' "$node.$domain" "$port"; done)
        in your pods            envFrom: [{configMapRef: {name: $GROUP-endpoints}}]

        What to try next:
          export KUBECONFIG=$(kubeconfig)
          alias kubectl=$KUBECTL
          kubectl -n $NS get rg $GROUP -w                        # in one terminal
          kubectl -n $NS delete pod $primary-0     # in another: the replica takes over
          kubectl -n $NS exec demo-cli -- redis-cli -c -h $endpoint GET hoge
          kubectl -n $NS describe rg $GROUP                      # status, conditions, events
          kubectl -n $NS delete rg $GROUP                        # and everything of it is gone
          make cluster-down
EOF
good "done in $(elapsed)"
