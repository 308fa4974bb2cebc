{{- define "chandlery.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "chandlery.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "chandlery.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chandlery.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chandlery.serviceAccount" -}}
{{- default (include "chandlery.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "chandlery.selector" -}}
app.kubernetes.io/name: {{ include "chandlery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chandlery.labels" -}}
{{ include "chandlery.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: chandlery
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "name" NAME "annotations" DICT "labels" DICT "cluster" BOOL) */}}
{{- define "chandlery.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .namespace | default .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "chandlery.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "chandlery.image" -}}
{{- $i := .Values.image -}}
{{- if $i.registry }}{{ $i.registry }}/{{ end }}{{ $i.repository }}
{{- if or $i.tag (not $i.digest) }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- if $i.digest }}@{{ $i.digest }}{{ end }}
{{- end -}}

{{/* What is generated about kinds, those that are switched on only, as YAML. */}}
{{- define "chandlery.kinds" -}}
{{- $all := (.Files.Get "files/kinds.yaml" | fromYaml).kinds -}}
{{- if .Values.kinds -}}
{{- range .Values.kinds }}{{ if not (hasKey $all .) }}{{ fail (printf "kinds: there is no kind %s; there are %s" . (keys $all | sortAlpha | join ", ")) }}{{ end }}{{ end -}}
{{- range $name := .Values.kinds }}
{{ toYaml (pick $all $name) }}
{{- end -}}
{{- else -}}
{{- toYaml $all -}}
{{- end -}}
{{- end -}}

{{- define "chandlery.webhookService" -}}
{{- include "chandlery.fullname" . }}-webhook
{{- end -}}

{{- define "chandlery.webhookSecret" -}}
{{- if eq .Values.webhook.certificates "operator" }}chandlery-webhook{{ else }}{{ include "chandlery.fullname" . }}-webhook-tls{{ end -}}
{{- end -}}

{{- define "chandlery.podSecurity" -}}
runAsNonRoot: true
{{- if .Values.runAsUser }}
runAsUser: {{ .Values.runAsUser }}
runAsGroup: {{ .Values.runAsUser }}
fsGroup: {{ .Values.runAsUser }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "chandlery.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "chandlery.env" -}}
{{- $env := dict
  "CHANDLERY_LOG_LEVEL" .Values.log.level
  "CHANDLERY_LOG_FORMAT" .Values.log.format
  "CHANDLERY_TELEMETRY_TRACES" .Values.telemetry.traces
  "CHANDLERY_OPERATOR_METRICS_HOST" .Values.listenAddress
  "CHANDLERY_OPERATOR_METRICS_PORT" (toString .Values.metrics.port)
  "CHANDLERY_OPERATOR_LEADER_ELECTION" "true"
  "CHANDLERY_OPERATOR_LEASE_SECONDS" (toString .Values.leaseSeconds)
  "CHANDLERY_KUBERNETES_CLUSTER_DOMAIN" .Values.drivers.clusterDomain
-}}
{{- if .Values.sharding.enabled -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_SHARDING" "true" -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_SHARDS" (toString .Values.sharding.shards) -}}
{{- end -}}
{{- with .Values.telemetry.endpoint }}{{ $_ := set $env "CHANDLERY_TELEMETRY_ENDPOINT" . }}{{ end -}}
{{- if ne (toString .Values.telemetry.sample) "1" }}{{ $_ := set $env "CHANDLERY_TELEMETRY_SAMPLE" (toString .Values.telemetry.sample) }}{{ end -}}
{{- with .Values.kinds }}{{ $_ := set $env "CHANDLERY_OPERATOR_KINDS" (join "," .) }}{{ end -}}
{{- with .Values.watchNamespace }}{{ $_ := set $env "CHANDLERY_OPERATOR_NAMESPACE" . }}{{ end -}}
{{- $images := merge (deepCopy .Values.drivers.images) (dict "chandlery" (include "chandlery.image" . | trim)) -}}
{{- $_ := set $env "CHANDLERY_KUBERNETES_IMAGES" (toJson $images) -}}
{{- with .Values.drivers.pullSecrets }}{{ $_ := set $env "CHANDLERY_KUBERNETES_PULL_SECRETS" (join "," .) }}{{ end -}}
{{- if .Values.webhook.enabled -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_HOST" .Values.listenAddress -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_PORT" (toString .Values.webhook.port) -}}
{{- if eq .Values.webhook.certificates "operator" -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_SERVICE" (printf "%s.%s" (include "chandlery.webhookService" .) .Release.Namespace) -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_REGISTRATION" (include "chandlery.webhookName" .) -}}
{{- else -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_CERTIFICATE" "/etc/chandlery/webhook/tls.crt" -}}
{{- $_ := set $env "CHANDLERY_OPERATOR_WEBHOOK_KEY" "/etc/chandlery/webhook/tls.key" -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := merge (dict) .Values.settings $env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Cluster-wide names hold the namespace too: two releases of one name may live in two namespaces. */}}
{{- define "chandlery.clusterName" -}}
{{- if eq (include "chandlery.fullname" .) .Release.Namespace }}{{ include "chandlery.fullname" . }}{{ else }}{{ printf "%s-%s" .Release.Namespace (include "chandlery.fullname" .) | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "chandlery.webhookName" -}}
{{- include "chandlery.clusterName" . -}}
{{- end -}}
