"""Checks whether module, datamodule, callbacks and Trainer flags go together."""
