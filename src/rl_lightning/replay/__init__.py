"""Replay ring buffers, prioritised sampling, and the files of a replay."""
