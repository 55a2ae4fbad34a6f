"""Algorithms over a table of all states and actions."""
