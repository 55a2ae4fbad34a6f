"""Pictures and records of board games."""
