"""Translated and cluttered images."""
