"""The matches of a validation or a test."""

from collections.abc import Iterator, Sequence

import torch

from rl_lightning.experience import CheckedMoves, MatchResults
from rl_lightning.games.gnugo import GnuGo
from rl_lightning.games.matches import drawn_openings, play_match
from rl_lightning.games.minimax import mistakes
from rl_lightning.games.network_player import network_player
from rl_lightning.search.players import Players
from rl_lightning.search.recording import OPENING_MOVES


def number_of_batches(opponents: Sequence[str]) -> int:
    """What `play_matches` yields, equally many on every rank."""
    return len(opponents) + ("perfect" in opponents)


def play_matches(
    players: Players, stage: str, opponents: Sequence[str], num_games: int
) -> Iterator[MatchResults | CheckedMoves]:
    """Play this rank's games of one match against each opponent.

    The random streams are the same at every call. Against the opponent "perfect" the most probable
    moves of the policy are compared with minimax as well, in all positions of the game.

    Args:
        players: Makes the players.
        stage: "validate" or "test"; they have different random streams.
        opponents: "start", "policy", "rollouts", "perfect" or "gnugo".
        num_games: Games of this rank.
    """
    game = players.game
    for name in opponents:
        pair = players.pair(name, f"{stage} {name}")
        # Ranks may have odd numbers of games, so half of them let the opponent move first.
        sign = -1 if players.rank % 2 else 1
        starts = None
        if name == "gnugo" and players.search["num_simulations"]:
            # Neither the search nor GNU Go draws its moves, so all games would be equal.
            policy = players.policy(f"{stage} openings")
            starts = drawn_openings(game, policy, num_games, OPENING_MOVES)
        try:
            match = play_match(game, pair[::sign][0], pair[::sign][1], num_games, starts)
        finally:
            for player in pair:
                if isinstance(player, GnuGo):
                    player.close()
        yield MatchResults(name, torch.from_numpy(sign * match.outcomes))
        if name == "perfect":
            yield CheckedMoves(_mistakes(players))


def _mistakes(players: Players) -> torch.Tensor:
    """Mistakes of the policy; rank 0 looks at all positions."""
    if players.rank:
        return torch.zeros(0, dtype=torch.bool)
    network = players.policy_network
    device = next(network.parameters()).device
    return torch.from_numpy(
        mistakes(players.game, network_player(players.game, network, None, device))
    )
