from datetime import date
from types import SimpleNamespace

from rl_lightning.tracking.run_description import describe_run

DEFAULTS = {
    "seed_everything": 1,
    "model": None,
    "data": None,
    "trainer": {
        "max_epochs": None,
        "accelerator": "cpu",
        "default_root_dir": "runs",
        "callbacks": None,
    },
    "target_network": {"tau": None, "every_n_updates": None},
    "model_logger": {"log": False},  # a callback, whose default is no parameter
    "ckpt_path": None,
}


def config(**changes):
    model = {
        "class_path": "rl_lightning.modules.DQN",
        "init_args": {
            "hidden_sizes": [8, 8],
            "double": True,
            "n_step": None,
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
        },
    }
    data = {
        "class_path": "rl_lightning.datamodules.ReplayDataModule",
        "init_args": {"env_id": "CartPole-v1", "env_kwargs": {"length": 5}, "seed": 3},
    }
    trainer = {**DEFAULTS["trainer"], "max_epochs": 7, "default_root_dir": "elsewhere"}
    return {
        **DEFAULTS,
        **{"seed_everything": 3, "model": model, "data": data, "trainer": trainer},
        **changes,
    }


MODULE, DATA = SimpleNamespace(algorithm="dqn"), SimpleNamespace(task="CartPole-v1")


def parameters(**changes):
    return describe_run(MODULE, DATA, "fit", config(**changes), DEFAULTS).parameters


def test_parameters_are_flat_named_like_flags_and_without_defaults():
    assert parameters() == {
        "seed_everything": "3",
        "model": "DQN",
        "model.hidden_sizes": "[8, 8]",
        "model.double": "true",
        "model.optimizer": "Adam",
        "model.optimizer.lr": "0.001",
        "data": "ReplayDataModule",
        "data.env_id": "CartPole-v1",
        "data.env_kwargs.length": "5",
        "trainer.max_epochs": "7",
    }


def test_values_that_differ_from_the_defaults_are_parameters():
    changed = parameters(target_network={"tau": 0.01, "every_n_updates": None})
    assert changed["target_network.tau"] == "0.01"
    assert {*changed} - {*parameters()} == {"target_network.tau"}
    stop = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"patience": 3}}
    listed = parameters(trainer={**DEFAULTS["trainer"], "callbacks": [stop]})
    assert listed["trainer.callbacks.EarlyStopping"] == "EarlyStopping"
    assert listed["trainer.callbacks.EarlyStopping.patience"] == "3"


def test_any_environment_argument_is_a_parameter_that_mlflow_takes():
    options = {"a,b (m)": 1, "mixed": [1, {"c": 2}], "rows": [{"d": 3}, {"d": 4}], "none": []}
    data = {"class_path": "D", "init_args": {"env_kwargs": options | {"day": date(2026, 1, 2)}}}
    found = {key: value for key, value in parameters(data=data).items() if "env_kwargs" in key}
    assert found == {
        "data.env_kwargs.a_b _m_": "1",
        "data.env_kwargs.mixed": '[1, {"c": 2}]',
        "data.env_kwargs.rows": '[{"d": 3}, {"d": 4}]',
        "data.env_kwargs.none": "[]",
        "data.env_kwargs.day": '"2026-01-02"',
    }


def test_names_and_tags_say_algorithm_environment_and_seed():
    run = describe_run(MODULE, DATA, "python x --a 'b c'", config(), DEFAULTS)
    assert run.experiment == "dqn-CartPole-v1"
    assert run.name.startswith("dqn-CartPole-v1-seed3-20")
    assert run.tags["seed"] == "3"
    assert (run.tags["algorithm"], run.tags["environment"]) == ("dqn", "CartPole-v1")
    assert run.tags["command"] == "python x --a 'b c'"
    assert run.tags["command"] in run.tags["mlflow.note.content"]
