"""Metrics and logs, all built from one finished call record."""
