"""Environments, what makes them, and what they keep."""
