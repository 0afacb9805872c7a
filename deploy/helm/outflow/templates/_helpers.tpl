{{- define "outflow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Short enough for what is put behind it. */}}
{{- define "outflow.fullname" -}}
{{- $name := include "outflow.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "outflow.selector" -}}
app.kubernetes.io/name: {{ include "outflow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "outflow.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "outflow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "outflow.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "outflow.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- /* A file's path as a key of a ConfigMap. */}}
{{- define "outflow.key" -}}
{{- . | replace "_" "__" | replace "/" "_." }}
{{- end }}

{{- define "outflow.store" -}}
{{- if .Values.store.url }}{{ .Values.store.url }}{{ else }}file://{{ .Values.store.mountPath }}{{ end }}
{{- end }}

{{- define "outflow.secretEnv" -}}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .root.Values.existingSecret | quote }}, key: {{ .key | quote }} } }
{{- end }}

{{- /* What the pods of both components have in common. */}}
{{- define "outflow.pod" -}}
serviceAccountName: {{ include "outflow.serviceAccount" .root }}
# Nothing here talks to Kubernetes.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ .part.topologySpread.topologyKey }}
    whenUnsatisfiable: {{ .part.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "outflow.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
{{- with .part.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .part.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .part.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "outflow.container" -}}
name: {{ .name }}
image: {{ printf "%s:%s" .root.Values.image.repository (default .root.Chart.AppVersion .root.Values.image.tag) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
ports:
  - { name: monitor, containerPort: {{ .root.Values.monitor.port }} }
startupProbe:
  httpGet: { path: /health/live, port: monitor }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /health/live, port: monitor }
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /health/ready, port: monitor }
  periodSeconds: 5
  timeoutSeconds: 4
resources: {{ toJson .part.resources }}
{{- with .part.envFrom }}
envFrom: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "outflow.env" -}}
{{ include "outflow.secretEnv" (dict "root" .root "name" "OUTFLOW_QUEUE" "key" .root.Values.secretKeys.queue) }}
{{ include "outflow.secretEnv" (dict "root" .root "name" "OUTFLOW_LIMITER" "key" .root.Values.secretKeys.limiter) }}
- { name: OUTFLOW_STORE, value: {{ include "outflow.store" .root | quote }} }
{{- with .root.Values.secretKeys.keys }}
{{ include "outflow.secretEnv" (dict "root" $.root "name" "OUTFLOW_KEYS" "key" .) }}
{{- end }}
- { name: OUTFLOW_MONITOR, value: "0.0.0.0:{{ .root.Values.monitor.port }}" }
- { name: OUTFLOW_LOG, value: {{ .root.Values.log | quote }} }
- { name: OUTFLOW_LOG_FORMAT, value: json }
{{- with .root.Values.tracing.endpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- with .part.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
