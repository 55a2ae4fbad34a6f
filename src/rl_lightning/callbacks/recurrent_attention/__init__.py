"""Pictures of glimpses and of a classifier's mistakes."""
