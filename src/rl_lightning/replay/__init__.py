"""Rings of past experience, and what is drawn from them."""
