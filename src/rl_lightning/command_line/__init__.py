"""Configurations and classes by name, and arguments of commands."""
