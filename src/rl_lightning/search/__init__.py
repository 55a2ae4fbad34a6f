"""Monte-Carlo tree search with networks."""
