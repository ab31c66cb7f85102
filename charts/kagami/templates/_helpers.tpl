{{- define "kagami.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "kagami.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "kagami.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kagami.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kagami.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kagami.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "kagami.labels" -}}
{{ include "kagami.selectorLabels" . }}
app.kubernetes.io/part-of: kagami
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kagami.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kagami.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "kagami.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* The file /etc/kagami/config.yaml. */}}
{{- define "kagami.config" -}}
clusterDomain: {{ .Values.clusterDomain }}
defaultEngine: {{ .Values.engines.default }}
imagePullPolicy: {{ .Values.engines.pullPolicy }}
engineImages:
  {{- range $version, $image := .Values.engines.images }}
  {{- if $image }}
  {{ $version | quote }}: {{ $image | quote }}
  {{- end }}
  {{- end }}
nodeTypes: {{- if .Values.nodeTypes }}{{ toYaml .Values.nodeTypes | nindent 2 }}{{ else }} {}{{ end }}
{{- end }}

{{/*
What the operator may do in the namespaces that it watches, one entry per line of reasoning. No wildcard, and nothing that a
line below does not explain.
*/}}
{{- define "kagami.rules" -}}
# The words it is told in. It writes only the groups: a finalizer, an annotation, the status; and of what they refer to, too, the
# status and a finalizer, so that nothing in use is deleted.
- apiGroups: [elasticache.kagami.dev]
  resources: [replicationgroups, parametergroups, subnetgroups, securitygroups]
  verbs: [get, list, watch]
- apiGroups: [elasticache.kagami.dev]
  resources: [replicationgroups]
  verbs: [patch, update]
- apiGroups: [elasticache.kagami.dev]
  resources: [parametergroups, subnetgroups, securitygroups]
  verbs: [patch]
- apiGroups: [elasticache.kagami.dev]
  resources: [replicationgroups/status]
  verbs: [get, patch, update]
- apiGroups: [elasticache.kagami.dev]
  resources: [parametergroups/status, subnetgroups/status, securitygroups/status]
  verbs: [patch]
# Setting an owner reference that blocks deletion needs this where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [elasticache.kagami.dev]
  resources: [replicationgroups/finalizers]
  verbs: [update]
# What a group is made of.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch, update, delete]
# The passwords of a group's own users and the keys between operator and agents.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# A shard's term is kept in a lease of its own. Its pods may `get` it, by a Role for each group; nobody can give what he does not have.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, update, delete]
# The role of a node is a label of its pod; the pods themselves are made and deleted by their stateful sets, but for one that never
# found a machine and is made anew for another zone, and a replica that moves back to its zone.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
# The claim of a volume that went with its machine is given up, so that its node gets a new one elsewhere.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, delete]
# What it says.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
