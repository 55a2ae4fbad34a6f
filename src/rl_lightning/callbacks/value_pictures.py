"""Draws the values and the policies of a grid."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import Dynamics, HasActionValues, HasDynamics
from rl_lightning.functional.bellman import (
    EXACT_STATES,
    best_actions,
    exact_values,
    greedy_policy,
    uniform_policy,
)
from rl_lightning.tracking.run_folder import run_folder, send_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELLS_WITH_TEXT = 150
_CELLS_WITH_ARROWS = 1600


class Panel(NamedTuple):
    """One grid of the picture."""

    title: str
    values: Tensor  # [S]
    actions: Tensor  # [S, A] bool: True for each action that gets an arrow


class ValuePictures(NeedsCallback):
    """Draws values as heatmaps, with arrows for the actions of the policy.

    Value iteration gets two panels: the random policy and the learned max Q with greedy actions.
    Policy evaluation gets the evaluated policy and the greedy policy in its values, which is
    one step of policy improvement.

    `fit` and `predict` write `values.png` into the run folder and send it to the MLflow run. The
    datamodule must be a `TabularDataModule` whose environment is a grid, which means that it has a
    `shape`, or `nrow` and `ncol`.
    """

    needs_of_module = HasActionValues
    needs_of_data = HasDynamics

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture and send it to MLflow."""
        if (path := self._draw(trainer, pl_module)) is not None:
            send_file(trainer, path)
            rank_zero_info(f"Values and policy: {path}")

    on_predict_end = on_train_end

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> Path | None:
        data: HasDynamics = trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        shape = data.grid_shape
        if shape is None:
            rank_zero_info("No picture of the values, because the environment is not a grid.")
            return None
        assert isinstance(pl_module, HasActionValues)
        values = pl_module.action_values.detach().cpu()
        policy = pl_module.evaluated_policy(data.dynamics)
        path = run_folder(trainer) / "values.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_values(data.dynamics, values, shape, policy).savefig(path)
        return path


def draw_values(
    dynamics: Dynamics,
    action_values: Tensor,
    shape: tuple[int, int],
    evaluated_policy: Tensor | None = None,
) -> "Figure":
    """Draw a table of action values and, for comparison, the exact values of another policy.

    Args:
        dynamics: Dynamics of a grid whose states are in row-major order, on the CPU.
        action_values: Q, [S, A], on the CPU.
        shape: Rows and columns of the grid.
        evaluated_policy: π(a | s) [S, A], the policy whose action values these are; None if they
            are those of value iteration.

    Returns:
        A figure of two panels, or of one panel if there are more states than
        `bellman.exact_values` accepts.
    """
    from matplotlib.figure import Figure

    exact = len(action_values) <= EXACT_STATES
    if evaluated_policy is None:
        best = best_actions(action_values)
        panels = [Panel("max Q, greedy actions", action_values.amax(dim=1), best)]
        if exact:
            random = uniform_policy(dynamics)
            panels.insert(0, Panel("Random policy", exact_values(dynamics, random), random > 0))
    else:
        values = (evaluated_policy * action_values).sum(dim=1)
        panels = [Panel("Evaluated policy", values, evaluated_policy > 0)]
        if exact:
            greedy = greedy_policy(action_values)
            improved = exact_values(dynamics, greedy)
            panels.append(Panel("Greedy in these values", improved, greedy > 0))
    height = max(2.5, min(7.0, 0.9 * shape[0] + 0.8))
    width = min(9.0, max(3.0, (height - 0.8) * shape[1] / shape[0]) + 0.8)
    figure = Figure(figsize=(width * len(panels), height), layout="constrained", dpi=100)
    directions = action_directions(dynamics, shape)
    closed = closed_states(dynamics)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel, directions, closed, shape)
    return figure


def _draw_panel(
    axes: Any, panel: Panel, directions: Tensor, closed: Tensor, shape: tuple[int, int]
) -> None:
    rows, columns = shape
    values = panel.values.masked_fill(closed | ~panel.values.isfinite(), torch.nan)
    axes.set_facecolor("0.6")  # the colour of NaN: terminal cells, walls and infinite values
    image = axes.imshow(values.view(shape).numpy(), cmap="RdYlGn", alpha=0.7)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(title=panel.title, xticks=[], yticks=[])
    if rows * columns <= _CELLS_WITH_ARROWS:
        state, action = (panel.actions & ~closed[:, None]).nonzero(as_tuple=True)
        down, right = (0.3 * directions[action]).unbind(dim=1)
        # The y axis of an image points down and that of a quiver points up, so negate `down`.
        axes.quiver(
            *(state % columns, state // columns, right, -down),
            **{"color": "black", "scale": 1.0, "scale_units": "xy", "width": 0.03 / columns},
            **{"headwidth": 4, "pivot": "tail"},
        )
    if rows * columns <= _CELLS_WITH_TEXT:
        for state_index in (~closed).nonzero().flatten().tolist():
            axes.text(
                state_index % columns - 0.45,
                state_index // columns - 0.36,
                f"{panel.values[state_index]:.3g}",
                fontsize=7,
            )


def action_directions(dynamics: Dynamics, shape: tuple[int, int]) -> Tensor:
    """The direction of each action on a grid, computed from the dynamics.

    Environments number their actions differently, so no fixed order of directions can be used.
    An action's direction is its mean move to a neighbouring cell, over all states. This is
    correct for slippery grids too.

    Args:
        dynamics: Dynamics of a grid whose states are in row-major order.
        shape: Rows and columns.

    Returns:
        [A, 2] float64: cells (down, right), each -1, 0 or 1.
    """
    actions = dynamics.rewards.shape[1]
    matrix = dynamics.transitions.to_sparse_coo()
    (row, successor), weight = matrix.indices().long(), matrix.values()
    state, action = row // actions, row % actions
    columns = shape[1]
    down = successor // columns - state // columns
    right = successor % columns - state % columns
    near = torch.maximum(down.abs(), right.abs()) == 1
    moves = torch.stack([down, right], dim=1) * weight[:, None]
    mean = moves.new_zeros(actions, 2).index_add(0, action[near], moves[near])
    return (mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)).round()


def closed_states(dynamics: Dynamics) -> Tensor:
    """States [S] bool without successors and without reward, that is terminals and walls."""
    states, actions = dynamics.rewards.shape
    onward = dynamics.transitions.crow_indices().diff().view(states, actions).sum(dim=1)
    return (onward == 0) & (dynamics.rewards == 0).all(dim=1)
