"""Small games of Go in SGF files, drawn at random. `write_games` made the folder `go_sample`."""

from pathlib import Path

import numpy as np

from rl_lightning.games.board_game import BoardGame

SAMPLE = Path(__file__).parent / "go_sample"


def sgf_of(moves, result, board_size):
    """The text of a game."""
    letters = "abcdefghijklmnopqrs"
    nodes = []
    for number, move in enumerate(moves):
        row, column = divmod(move, board_size)
        point = "" if row == board_size else letters[column] + letters[board_size - 1 - row]
        nodes.append(f";{'BW'[number % 2]}[{point}]")
    return f"(;GM[1]FF[4]SZ[{board_size}]RE[{result}]{''.join(nodes)})"


def write_games(folder, number, board_size=9, num_moves=12):
    """Write random games and return the folder."""
    folder.mkdir(parents=True)
    game, rng = BoardGame(f"go(board_size={board_size})"), np.random.default_rng(0)
    for index in range(number):
        state = game.start()
        for _ in range(num_moves):
            game.play(state, int(rng.choice(state.legal_actions()[:-1])))
        text = sgf_of(state.history(), ("B+1.5", "W+R")[index % 2], board_size)
        (folder / f"game{index}.sgf").write_text(text)
    return folder
