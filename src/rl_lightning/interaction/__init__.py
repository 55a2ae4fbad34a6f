"""The interaction of a policy with environments: collected rollouts and whole episodes."""
