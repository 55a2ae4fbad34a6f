"""Pure functions over tensors: returns, targets, Bellman equations, exploration."""
