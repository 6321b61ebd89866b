"""Spans of requests, by OpenTelemetry where it is switched on; nothing of that is imported before."""
