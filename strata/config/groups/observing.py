# the first argument of a setting is its default
"""Settings of metrics, logs and traces."""

from __future__ import annotations

import attrs

from strata.config.fields import setting


@attrs.frozen(kw_only=True, slots=False)
class ObservingSettings:
    """Metrics, logs and traces."""

    metrics_port: int | None = setting(
        None,
        "Second TCP port that serves only metrics, to any client that can reach it (none: metrics on the "
        "main port only, for administrators; 0: any free port).",
        least=0,
        most=65535,
    )
    metrics_host: str = setting(
        "127.0.0.1", "IP address or host name on which `metrics_port` listens; `::` includes IPv4."
    )
    metrics_max_tenants: int = setting(
        1000, "Maximum tenants with metrics of their own; the metrics of all others are summed.", least=0
    )

    log_level: str = setting(
        "INFO",
        "Lowest level of log lines that are written.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        live=True,
    )
    log_format: str = setting(
        "json",
        "One JSON object per line (`json`), or readable text (`text`).",
        choices=("json", "text"),
        live=True,
    )

    tracing_enabled: bool = setting(
        False,  # noqa: FBT003  # the default
        "Export OpenTelemetry spans of requests by OTLP over HTTP, to where the standard variables `OTEL_*` "
        "say; needs the extra `otel`.",
    )
