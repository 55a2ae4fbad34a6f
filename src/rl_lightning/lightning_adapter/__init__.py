"""The only package that depends on what other libraries do not promise.

Its functions touch private names, read messages, and edit the internals of Lightning's checkpoints.
Each has a test in `tests/lightning_adapter/` that fails if the library changes, and the library has
an upper bound in `setup.cfg`.
"""
