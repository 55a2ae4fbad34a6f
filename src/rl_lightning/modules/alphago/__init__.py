"""AlphaGo: supervised policy, policy gradient by self-play, value network."""
