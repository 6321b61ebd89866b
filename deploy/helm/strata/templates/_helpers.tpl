{{- define "strata.name" -}}
{{- if eq .Release.Name .Chart.Name -}}{{ .Release.Name }}{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{/* All pods: servers, and the job that migrates. */}}
{{- define "strata.pods" -}}
app.kubernetes.io/name: strata
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The servers alone. */}}
{{- define "strata.selector" -}}
{{ include "strata.pods" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "strata.labels" -}}
{{ include "strata.pods" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "strata.image" -}}
{{- $repository := required "image.repository: name the image that you have made of deploy/service-mode/Dockerfile" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ required "image.tag: give a tag, or image.digest" .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "strata.check" -}}
{{- $_ := required "proxyToken.existingSecret: name the Secret with the proxy's token" .Values.proxyToken.existingSecret -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- $_ := required "metadata.existingSecret: servers share a database; name the Secret with its DSN, or set replicas to 1" .Values.metadata.existingSecret -}}
{{- $_ := required "s3.bucket: servers share their results; name a bucket, or set replicas to 1" .Values.s3.bucket -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $_ := required "networkPolicy.proxy: say which pods are the proxy; nothing else may connect" (.Values.networkPolicy.proxy | first) -}}
{{- end -}}
{{- end -}}

{{- define "strata.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- end -}}

{{- define "strata.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "strata.env" -}}
- name: STRATA_HOST
  value: {{ .Values.service.host | quote }}
- name: STRATA_PORT
  value: {{ .Values.service.port | quote }}
- name: STRATA_DEPLOYMENT_MODE
  value: service
- name: STRATA_AUTH_MODE
  value: trusted_proxy
- name: STRATA_PROXY_TOKEN_FILE
  value: /run/secrets/strata/proxy-token
- name: STRATA_ARTIFACT_DIR
  value: /data/artifacts
- name: STRATA_CACHE_DIR
  value: /data/cache
- name: STRATA_SHUTDOWN_NOTICE_SECONDS
  value: {{ .Values.shutdown.noticeSeconds | quote }}
- name: STRATA_SHUTDOWN_GRACE_SECONDS
  value: {{ .Values.shutdown.graceSeconds | quote }}
{{- if .Values.metrics.enabled }}
- name: STRATA_METRICS_HOST
  value: {{ .Values.service.host | quote }}
- name: STRATA_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
{{- end }}
{{- if .Values.metadata.existingSecret }}
- name: STRATA_ARTIFACT_METADATA_DSN_FILE
  value: /run/secrets/strata/dsn
{{- end }}
{{- with .Values.s3 }}
{{- if .bucket }}
- name: STRATA_ARTIFACT_BLOB_BACKEND
  value: s3
- name: STRATA_ARTIFACT_S3_BUCKET
  value: {{ .bucket | quote }}
- name: STRATA_ARTIFACT_S3_PREFIX
  value: {{ .prefix | quote }}
{{- if .region }}
- name: STRATA_S3_REGION
  value: {{ .region | quote }}
{{- end }}
{{- if .endpointUrl }}
- name: STRATA_S3_ENDPOINT_URL
  value: {{ .endpointUrl | quote }}
{{- end }}
{{- if .existingSecret }}
- name: STRATA_S3_ACCESS_KEY_FILE
  value: /run/secrets/strata/s3-access-key
- name: STRATA_S3_SECRET_KEY_FILE
  value: /run/secrets/strata/s3-secret-key
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "strata.mounts" -}}
- name: config
  mountPath: /etc/strata
  readOnly: true
- name: secrets
  mountPath: /run/secrets/strata
  readOnly: true
{{- if .Values.moreSecrets }}
- name: more-secrets
  mountPath: /run/secrets/more
  readOnly: true
{{- end }}
- name: artifacts
  mountPath: /data/artifacts
- name: cache
  mountPath: /data/cache
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* Volumes besides that of the results, which a single server without a bucket keeps. */}}
{{- define "strata.volumes" -}}
- name: config
  configMap:
    name: {{ include "strata.name" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .Values.proxyToken.existingSecret }}
          items:
            - {key: {{ .Values.proxyToken.key | quote }}, path: proxy-token}
      {{- if .Values.metadata.existingSecret }}
      - secret:
          name: {{ .Values.metadata.existingSecret }}
          items:
            - {key: {{ .Values.metadata.key | quote }}, path: dsn}
      {{- end }}
      {{- if and .Values.s3.bucket .Values.s3.existingSecret }}
      - secret:
          name: {{ .Values.s3.existingSecret }}
          items:
            - {key: access-key, path: s3-access-key}
            - {key: secret-key, path: s3-secret-key}
      {{- end }}
{{- if .Values.moreSecrets }}
- name: more-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range .Values.moreSecrets }}
      - secret:
          name: {{ . }}
      {{- end }}
{{- end }}
- name: cache
  emptyDir:
    sizeLimit: {{ .Values.cache.size }}
- name: tmp
  emptyDir:
    sizeLimit: 2Gi
{{- end -}}
