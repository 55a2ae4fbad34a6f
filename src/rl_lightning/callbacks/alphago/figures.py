"""Draws a board game: values along the game, and priors and visits of some positions."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from rl_lightning.experience import RecordedGame
from rl_lightning.games.board_game import BoardGame

BOARDS = 4  # positions in a picture


def draw_game(game: BoardGame, record: RecordedGame) -> Figure:
    """Draw the values of all positions, and of some positions the stones, priors and visits.

    Stones of games other than Go are drawn where they were played.
    """
    length = len(record.actions)
    shown = shown_moves(record)
    figure = Figure(figsize=(3 * BOARDS, 9), layout="constrained")
    grid = figure.add_gridspec(3, BOARDS)
    curve = figure.add_subplot(grid[0, :])
    curve.plot(np.arange(1, length + 1), record.values.numpy(), marker=".")
    curve.axhline(0, color="grey", linewidth=0.5)
    curve.set(
        ylim=(-1.05, 1.05),
        xlabel="move",
        ylabel=f"value for the first player ({record.players[0]})",
    )
    for move in shown:
        curve.axvline(move + 1, color="tab:orange", linewidth=0.5)
    visits = record.visits.numpy()
    totals = np.maximum(visits.sum(1, keepdims=True), 1)
    for column, move in enumerate(shown):
        stones = stones_before(game, record, int(move))
        rows = (("priors", record.priors[move].numpy()), ("visits", visits[move] / totals[move]))
        for row, (name, values) in enumerate(rows):
            axes = figure.add_subplot(grid[1 + row, column])
            _draw_board(axes, game, stones, values, int(record.actions[move]))
            axes.set_title(f"{name} before move {move + 1}", fontsize=9)
    return figure


def shown_moves(record: RecordedGame) -> npt.NDArray[np.int64]:
    """Up to `BOARDS` moves with an evaluation, spread over the game."""
    evaluated = np.flatnonzero(np.isfinite(record.values.numpy()))
    return evaluated[np.unique(np.linspace(0, len(evaluated) - 1, BOARDS).round().astype(int))]


def stones_before(game: BoardGame, record: RecordedGame, move: int) -> npt.NDArray[np.int8]:
    """The stones [P] before a move: 1 for the first player, -1 for the second, 0 for none."""
    state, stones = game.start(), np.zeros(game.num_points, np.int8)
    for action in record.actions[:move].tolist():
        if action < game.num_points:
            stones[action] = 1 if state.current_player() == 0 else -1
        game.play(state, action)
    return game.stones(state) if game.is_go else stones


def _draw_board(
    axes: Any,
    game: BoardGame,
    stones: npt.NDArray[np.int8],
    values: npt.NDArray[Any],
    action: int,
) -> None:
    height, width = game.board_shape
    axes.imshow(
        values[: game.num_points].reshape(height, width), cmap="Blues", vmin=0, vmax=0.6,
        origin="lower",
    )  # fmt: skip
    for colour, which in (("black", 1), ("white", -1)):
        y, x = np.divmod(np.flatnonzero(stones == which), width)
        axes.scatter(x, y, s=1500 / max(height, width), c=colour, edgecolors="black")
    if action < game.num_points:
        axes.scatter(action % width, action // width, marker="x", c="tab:orange")
    axes.set(xticks=[], yticks=[])
