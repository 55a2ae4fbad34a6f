"""Writes games of Go as SGF."""

from collections.abc import Sequence

from rl_lightning.games.board_game import BoardGame
from rl_lightning.runtime.errors import import_extra


def sgf_of(
    game: BoardGame,
    actions: Sequence[int],
    outcome: float,
    names: tuple[str, str],
    comments: Sequence[str] = (),
) -> bytes:
    """The content of an SGF file of one game of Go.

    Args:
        game: Go.
        actions: The moves.
        outcome: For Black: 1 for a win, -1 for a loss, 0 for a draw.
        names: Of Black and of White.
        comments: One for each move, or none at all.
    """
    sgf = import_extra("sgfmill.sgf", "SGF files need sgfmill", "go")
    size = game.board_shape[0]
    record = sgf.Sgf_game(size)
    root = record.get_root()
    root.set("KM", float(game.rules.get_parameters()["komi"]))
    root.set("PB", names[0])
    root.set("PW", names[1])
    root.set("RE", {1.0: "B+", -1.0: "W+", 0.0: "0"}[outcome])
    for number, action in enumerate(actions):
        node = record.extend_main_sequence()
        point = None if action == game.num_points else divmod(action, size)
        node.set_move("bw"[number % 2], point)
        if comments:
            node.set("C", comments[number])
    content: bytes = record.serialise()
    return content
