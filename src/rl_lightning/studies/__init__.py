"""Studies: one configuration trained with several seeds, or with several hyperparameters."""
