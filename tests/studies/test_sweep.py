"""The trials of a sweep: what is drawn, how long they train, and which are stopped."""

from argparse import Namespace
from types import SimpleNamespace

import pytest

from rl_lightning.datamodules import (
    ReplayDataModule,
    RolloutDataModule,
    RolloutMinibatchDataModule,
)
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.inspection import env_steps_of
from rl_lightning.studies.search_space import draw, read_search_space
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.sweep import Sweep, is_below_median
from rl_lightning.studies.trial_table import Trial

SPACE = read_search_space("{lr: {low: 1e-4, high: 1e-1, log: true}, n: [2, 4]}")


def _trials(count, value=1.0):
    return [
        Trial(number, {"lr": 0.001 * (number + 1), "n": 2}, "complete", "", 0, {"value": value})
        for number in range(count)
    ]


def test_a_draw_depends_on_the_name_and_the_number():
    drawn = [draw(SPACE, _trials(count), name, 1) for name in ("a", "b") for count in range(20)]
    again = [draw(SPACE, _trials(count), name, 1) for name in ("a", "b") for count in range(20)]
    assert drawn == again, "another process draws the same"
    assert len({each["lr"] for each in drawn}) == 40


def test_running_pruned_and_failed_trials_can_be_drawn_after():
    trials = _trials(12)
    states = ("running", "pruned", "failed", "stopped")
    others = [each._replace(state=state, result={}) for each, state in zip(trials, states)]  # noqa: B905
    assert draw(SPACE, [*others, *trials[4:]], "a", -1) is not None


@pytest.mark.parametrize(
    ("text", "count"),
    [("{n: [2, 4], m: {low: 1, high: 3}}", 6), ("{n: {low: 0, high: 1.5, step: 0.5}}", 4)],
)
def test_a_discrete_space_is_drawn_completely_and_nothing_twice(text, count):
    space, trials = read_search_space(text), []
    while (parameters := draw(space, trials, "a", 1)) is not None:
        trials.append(Trial(len(trials), parameters, "complete", "", 0, {"value": 1.0}))
        assert len(trials) <= count
    assert len({str(trial.parameters) for trial in trials}) == len(trials) == count


def _curve(*points):
    return [[step, score, 0.0] for step, score in points]


def test_runs_are_compared_at_equal_env_steps():
    """Five runs validate every 100 steps and one every 400; at 400 it is the best of all."""
    others = [_curve(*((step, step / 100) for step in range(100, 2001, 100))) for _ in range(5)]
    assert not is_below_median(_curve((400, 4.5)), others, 1)
    # Its first score is above the others' first scores, and below those after as many steps.
    assert is_below_median(_curve((400, 3.5)), others, 1)
    assert is_below_median(_curve((400, 3.5)), others, -1), "of an error the lowest is the best"
    assert not is_below_median(_curve((400, 0.5)), others, -1)
    assert not is_below_median(_curve((200, 9.0), (400, 3.5)), others, 1), "the best so far counts"


def test_no_run_is_stopped_before_enough_others_have_come_as_far_or_early():
    others = [_curve((100, 9.0), (2000, 9.0)) for _ in range(5)]
    assert is_below_median(_curve((400, 1.0)), others, 1)
    assert not is_below_median(_curve((400, 1.0)), others[:4], 1)
    behind = [*others[:4], _curve((100, 9.0), (300, 9.0))]
    assert not is_below_median(_curve((400, 1.0)), behind, 1)
    assert not is_below_median(_curve((190, 1.0)), others, 1), "in the first tenth"
    assert not is_below_median([], others, 1)


@pytest.mark.parametrize(
    ("data", "flags", "expected"),
    [
        (RolloutDataModule("CartPole-v1", 16, num_envs=4, updates_per_epoch=5), {}, 3 * 5 * 64),
        (RolloutDataModule("CartPole-v1", 16, num_envs=4), {"max_steps": 7}, 7 * 64),
        (
            RolloutMinibatchDataModule("CartPole-v1", 2, 2, rollout_length=16, num_envs=4,
                                       updates_per_epoch=8),
            {"max_epochs": 2}, 4 * 64,
        ),
        (
            ReplayDataModule("CartPole-v1", num_envs=2, env_steps_per_update=4,
                             warmup_env_steps=50, updates_per_epoch=10, capacity=1000),
            {"world_size": 2}, 2 * (50 + 30 * 4),
        ),
        (RolloutDataModule("CartPole-v1", episodes_per_update=8), {}, None),
        (RolloutDataModule("CartPole-v1", 16), {"max_epochs": -1}, None),
    ],
)  # fmt: skip
def test_the_env_steps_of_a_configuration_as_written(data, flags, expected):
    trainer = {"max_steps": -1, "max_epochs": 3, "world_size": 1, "accumulate_grad_batches": 1}
    assert env_steps_of(SimpleNamespace(**{**trainer, **flags}), data) == expected


@pytest.mark.parametrize(
    ("counts", "fixed", "given", "expected"),
    [
        (True, 100, None, 100),
        (True, 100, 50, 50),
        (True, None, 50, 50),
        (False, None, None, None),
        (True, None, None, "give --env_steps"),
        (False, None, 50, "leave it out"),
    ],
)
def test_the_budget_of_a_sweep(counts, fixed, given, expected, tmp_path):
    options = Namespace(space="{lr: [1, 2]}", trials=2, env_steps=given)
    sweep = Sweep(options, [])
    subject = Subject("a", "val/return", "max", 1, None, None, {}, {}, counts, fixed)
    if isinstance(expected, str):
        with pytest.raises(ConfigurationError, match=expected):
            sweep.prepare(subject, tmp_path)
        return
    sweep.prepare(subject, tmp_path)
    assert sweep.env_steps == expected
