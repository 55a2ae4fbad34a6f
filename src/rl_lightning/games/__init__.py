"""Two-player board games: rules, encodings, records and matches."""
