"""Traces by OpenTelemetry, an extra: nothing imports this package but the wiring, and only where traces are on."""
