"""Datamodules of AlphaGo: expert games, self-play and matches."""
