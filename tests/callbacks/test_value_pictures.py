from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import create_autospec

import pytest
import torch
from lightning import Trainer
from matplotlib.figure import Figure

from rl_lightning.callbacks import MLflowTracker, ValuePictures
from rl_lightning.callbacks.value_pictures import action_directions, closed_states, draw_values
from rl_lightning.datamodules import TabularDataModule
from rl_lightning.functional.bellman import optimality_sweep, uniform_policy
from rl_lightning.modules import PolicyEvaluation, ValueIteration

UP, RIGHT, DOWN, LEFT = [-1, 0], [0, 1], [1, 0], [0, -1]


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "directions"),
    [
        ("rl_lightning/GridWorld-v0", {"slip": 0.3, "size": [3, 6]}, [UP, RIGHT, DOWN, LEFT]),
        ("CliffWalking-v1", {}, [UP, RIGHT, DOWN, LEFT]),
        ("FrozenLake-v1", {}, [LEFT, DOWN, RIGHT, UP]),
        ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}, [LEFT, DOWN, RIGHT, UP]),
    ],
)
def test_directions_are_read_from_the_dynamics(
    env_id: str, env_kwargs: dict[str, Any], directions: list[list[int]]
) -> None:
    data = TabularDataModule(env_id, env_kwargs=env_kwargs)
    assert data.grid_shape is not None
    assert action_directions(data.dynamics, data.grid_shape).tolist() == directions


def test_terminals_and_walls_are_closed() -> None:
    env_kwargs = {"size": 3, "walls": [[1, 1]]}
    data = TabularDataModule("rl_lightning/GridWorld-v0", env_kwargs=env_kwargs)
    closed = closed_states(data.dynamics)
    assert closed.nonzero().flatten().tolist() == [0, 4, 8]


def test_arrows_point_to_the_nearest_corner() -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0)
    action_values = torch.zeros(16, 4, dtype=torch.float64)
    for _ in range(10):
        action_values = optimality_sweep(data.dynamics, action_values)
    figure = draw_values(data.dynamics, action_values, (4, 4))
    random, greedy = (axes for axes in figure.axes if axes.get_title())
    assert (random.get_title(), greedy.get_title()) == ("Random policy", "max Q, greedy actions")
    assert [text.get_text() for text in random.texts][:3] == ["-14", "-20", "-22"]
    assert [text.get_text() for text in greedy.texts][:3] == ["-1", "-2", "-3"]
    (arrows,) = (c for c in greedy.collections if hasattr(c, "U"))
    pointing = {
        (int(column), int(row)): (round(right, 1), round(up, 1))
        for (column, row), right, up in zip(arrows.XY, arrows.U, arrows.V, strict=True)
    }
    assert pointing[1, 0] == (-0.3, 0.0), "left, from the cell beside the corner"
    assert pointing[0, 1] == (0.0, 0.3), "up, from the cell below it"


def titled(figure: Figure) -> list[tuple[str, list[str]]]:
    """The title and the first three values of each panel."""
    panels = (axes for axes in figure.axes if axes.get_title())
    return [(each.get_title(), [text.get_text() for text in each.texts][:3]) for each in panels]


def test_policy_evaluation_shows_its_values_and_those_of_the_improved_policy(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0)
    trainer = SimpleNamespace(
        **{"is_global_zero": True, "datamodule": data, "loggers": [], "fast_dev_run": 0},
        **{"logger": None, "default_root_dir": tmp_path, "ckpt_path": None},
    )
    module = PolicyEvaluation(data.environment)
    for sweeps, evaluated in ((1, ["-1", "-1", "-1"]), (500, ["-14", "-20", "-22"])):
        module.action_values.data.zero_()
        for _ in range(sweeps):
            module.action_values.data = module.sweep(data.dynamics).detach()
        ValuePictures().on_train_end(cast(Trainer, trainer), module)
        panels = titled(drawn[-1])
        if sweeps == 1:  # all actions have the same value, and "up" never ends in the top row
            assert panels[1] == ("Greedy in these values", ["-inf", "-inf", "-inf"])
        assert panels[0] == ("Evaluated policy", evaluated)
        assert torch.allclose(
            module.values(torch.tensor([1, 2, 3])),
            torch.tensor([float(value) for value in evaluated]).double(),
        )
    # One step of policy improvement gives the shortest paths here.
    assert panels[1] == ("Greedy in these values", ["-1", "-2", "-3"])
    policy, improved = (axes for axes in drawn[-1].axes if axes.get_title())
    arrows = [
        next(len(each.U) for each in axes.collections if hasattr(each, "U"))
        for axes in (policy, improved)
    ]
    assert arrows == [14 * 4, 14]  # all actions of the random policy, and one of the greedy policy


def test_a_large_grid_has_no_panel_of_exact_values() -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", env_kwargs={"size": 33}, gamma=1.0)
    table = torch.zeros(33 * 33, 4, dtype=torch.float64)
    titles = [
        [title for title, _ in titled(draw_values(data.dynamics, table, (33, 33), policy))]
        for policy in (None, uniform_policy(data.dynamics))
    ]
    assert titles == [["max Q, greedy actions"], ["Evaluated policy"]]


def test_fit_ends_with_a_picture_in_mlflow(tmp_path: Path, drawn: list[Figure]) -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0)
    tracker = create_autospec(MLflowTracker, instance=True, run_id="abc")
    trainer = SimpleNamespace(
        **{"is_global_zero": True, "datamodule": data, "loggers": [tracker], "fast_dev_run": 0},
        **{"logger": None, "default_root_dir": tmp_path, "ckpt_path": None},
    )
    module = ValueIteration(data.environment)
    ValuePictures().on_train_end(cast(Trainer, trainer), module)
    path = tmp_path / "values.png"
    assert tracker.experiment.log_artifact.call_args.args == ("abc", str(path), None)
    assert path.stat().st_size > 1000
    assert len([axes for axes in drawn[0].axes if axes.get_title()]) == 2


def test_predict_writes_the_picture_into_the_run_folder(tmp_path: Path) -> None:
    data = TabularDataModule("rl_lightning/GridWorld-v0", gamma=1.0)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[ValuePictures()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.predict(ValueIteration(data.environment), data, return_predictions=False)
    assert (tmp_path / "values.png").stat().st_size > 1000


def test_without_a_grid_there_is_no_picture(caplog: pytest.LogCaptureFixture) -> None:
    data = TabularDataModule("Taxi-v4", updates_per_epoch=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[ValuePictures()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    with caplog.at_level("INFO"):
        trainer.fit(ValueIteration(data.environment), data)
    assert "No picture of the values" in caplog.text
