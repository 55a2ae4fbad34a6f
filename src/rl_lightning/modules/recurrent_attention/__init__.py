"""The Recurrent Attention Model, and plain classifiers to compare it with."""
