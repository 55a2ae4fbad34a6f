"""Metrics, and the interval at which they are logged."""
