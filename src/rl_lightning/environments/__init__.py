"""Environments: making, stepping and describing them, and saving their state."""
