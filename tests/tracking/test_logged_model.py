"""`forward` of every kind of module, exported to ONNX, loaded from MLflow and served."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient

from rl_lightning.callbacks.model_logger import ModelLogger
from rl_lightning.cli import main
from rl_lightning.modules import (
    A2C,
    DQN,
    SAC,
    ConvolutionalClassifier,
    GameValue,
    PolicyEvaluation,
    QLearning,
    RecurrentAttentionModel,
    Reinforce,
    SelfPlayPolicy,
    SupervisedPolicy,
    ValueIteration,
)
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.tracking.logged_model import CheckedForward, onnx_program
from specs import spec

TABLE = {"observation_shape": (), "observation_dtype": "int64", "num_observations": 5}
BYTES = {"observation_shape": (4, 84, 84), "observation_dtype": "uint8"}
AGENTS = {
    "dqn": lambda: DQN(spec(num_actions=3), dueling=True, normalise_observations=True),
    "dqn of bytes": lambda: DQN(spec(**BYTES, num_actions=3), network="nature"),
    "dqn of bool": lambda: DQN(spec(observation_dtype="bool", num_actions=3)),
    "reinforce of states": lambda: Reinforce(spec(**TABLE, num_actions=3)),
    "a2c of a box": lambda: A2C(spec(action_shape=(2, 2), bounds=0.2), normalise_observations=True),
    "a2c without bounds": lambda: A2C(spec(action_shape=(2,), bounds=float("inf"))),
    "sac": lambda: SAC(spec(action_shape=(2,), bounds=3.0), normalise_observations=True),
    "q-learning": lambda: QLearning(spec(**TABLE, num_actions=3)),
    "value iteration": lambda: ValueIteration(spec(**TABLE, num_actions=3)),
    "policy evaluation": lambda: PolicyEvaluation(spec(**TABLE, num_actions=3)),
}
GO = spec(observation_shape=(6, 9, 9), observation_dtype="bool", num_actions=82)
SCORERS = {
    "classifier": lambda: ConvolutionalClassifier((1, 28, 28), 10),
    "ram": lambda: RecurrentAttentionModel(
        (1, 28, 28), 10, RAMNetworkOptions(num_glimpses=3, num_scales=2)
    ),
    "ram with lstm": lambda: RecurrentAttentionModel(
        (1, 28, 28), 10, RAMNetworkOptions(num_glimpses=2, lstm=True)
    ),
    "supervised policy": lambda: SupervisedPolicy(GO, num_layers=2, num_filters=4),
    "value of games": lambda: GameValue(GO, num_layers=2, num_filters=4),
    "self-play": lambda: SelfPlayPolicy(GO, num_layers=2, num_filters=4),
}
CONFIG = str(Path(__file__).parent.parent.parent / "configs/a2c/cartpole.yaml")
SMALL = [
    *("--config", CONFIG, "--trainer.enable_progress_bar", "false", "--data.eval_episodes", "3"),
    *("--data.num_eval_envs", "3", "--data.num_envs", "2", "--data.rollout_length", "4"),
]
FIT = ["fit", *SMALL, "--trainer.max_epochs", "2", "--data.updates_per_epoch", "2"]


def made(make):
    """A module with random weights, and fifty inputs."""
    torch.manual_seed(1)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():  # large ones, so that actions reach their bounds
            if parameter.ndim == 2:
                # Scores of several layers would grow to 1e4, where float32 rounds by 1e-3.
                scale = 0.5 if hasattr(module, "act") else parameter.shape[1] ** -0.5
                parameter.copy_(torch.randn(parameter.shape).to(parameter) * scale)
    example = module.example_input_array
    shape = (50, *example.shape[1:])
    if example.is_floating_point():
        return module, torch.randn(shape)
    limit = {torch.bool: 2, torch.uint8: 256}.get(example.dtype, 5)
    return module, torch.randint(limit, shape).to(example.dtype)


@pytest.mark.parametrize("name", AGENTS)
def test_forward_is_the_greedy_action_that_the_environment_gets(name):
    agent, observations = made(AGENTS[name])
    acted, given = agent.act(observations), agent(observations)
    low, high = agent.environment["action_low"], agent.environment["action_high"]
    if low is not None:
        shape = acted.shape[1:]
        acted = acted.clamp(torch.tensor(low).view(shape), torch.tensor(high).view(shape))
    assert len({str(row) for row in given.tolist()}) > 1
    torch.testing.assert_close(given, acted, rtol=0, atol=0)
    if name == "a2c of a box":
        assert not torch.equal(given, agent.act(observations)), "nothing was clipped"


@pytest.mark.parametrize("name", [*AGENTS, *SCORERS])
def test_the_exported_graph_equals_forward(name):
    module, inputs = made((AGENTS | SCORERS)[name])
    shapes = ({0: torch.export.Dim("batch")},)
    graph = torch.export.export(module, (module.example_input_array,), dynamic_shapes=shapes)
    for rows in (inputs, inputs[:1]):
        torch.testing.assert_close(graph.module()(rows), module(rows))


@pytest.mark.parametrize("name", [*AGENTS, *SCORERS])
def test_onnx_equals_torch(name, tmp_path):
    module, inputs = made((AGENTS | SCORERS)[name])
    onnx_program(module).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for rows in (inputs, inputs[:1]):
        (found,) = session.run(None, {"observations": rows.numpy()})
        np.testing.assert_allclose(found, module(rows).detach().numpy(), rtol=1e-4, atol=1e-4)


PREDICT = """
import sys, mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save("actions.npy", model.predict(np.load("observations.npy")))
assert "rl_lightning" not in sys.modules
"""


def versions(store, name):
    client = MlflowClient(store)
    return client, client.search_model_versions(f"name='{name}'")


def agent_of(working_folder):
    (best,) = working_folder.glob("runs/*/*/checkpoints/best*.ckpt")
    return A2C.load_from_checkpoint(best, map_location="cpu", weights_only=True).eval()


def test_a_registered_model_acts_like_the_agent_without_this_package(working_folder, store):
    assert main([*FIT, "--model_logger.registered_model_name", "mine"]) == 0
    assert (os.environ["MLFLOW_TRACKING_URI"], mlflow.get_tracking_uri()) == (store, store)
    client, (version,) = versions(store, "mine")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == version.run_id
    assert model.params["model.optimizer.lr"] == run.data.params["model.optimizer.lr"]
    (best,) = working_folder.glob("runs/*/*/checkpoints/best*.ckpt")
    assert model.tags == model.tags | {"algorithm": "a2c", "checkpoint": best.name}
    info = mlflow.models.get_model_info(model.artifact_location)
    assert [str(each.shape) for each in info.signature.inputs] == ["(-1, 4)"]
    assert [str(each.shape) for each in info.signature.outputs] == ["(-1,)"]
    requirements = Path(model.artifact_location.removeprefix("file://"), "requirements.txt")
    names = {line.partition("==")[0] for line in requirements.read_text().splitlines()}
    assert names == {"mlflow", "torch", "numpy"}

    observations = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    np.save("observations.npy", observations)
    address = str(model.artifact_location)
    subprocess.run([sys.executable, "-c", PREDICT, address], check=True)
    expected = agent_of(working_folder)(torch.from_numpy(observations))
    assert len({*expected.tolist()}) == 2
    assert np.load("actions.npy").tolist() == expected.tolist()


def test_no_model_is_logged_unless_it_is_asked_for(working_folder, store):
    assert main(FIT) == 0
    assert main(["test", *SMALL, "--ckpt_path", "best"]) == 0
    (run,) = {path.parts[-3] for path in working_folder.glob("runs/*/*/checkpoints/last.ckpt")}
    client = MlflowClient(store)
    experiment = client.get_run(run).info.experiment_id
    models = client.search_logged_models([experiment])
    assert [model for model in models if model.source_run_id == run] == []


def test_a_tested_checkpoint_becomes_a_version_in_onnx_in_its_run(working_folder, store):
    assert main(FIT) == 0
    assert versions(store, "later")[1] == []
    name = ["--model_logger.registered_model_name", "later", "--model_logger.format", "onnx"]
    assert main(["test", *SMALL, "--ckpt_path", "best", *name]) == 0
    client, (version,) = versions(store, "later")
    assert client.get_run(version.run_id).data.metrics["test/length"] > 0
    model = mlflow.pyfunc.load_model("models:/later/1")
    observations = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    expected = agent_of(working_folder)(torch.from_numpy(observations))
    assert model.predict(observations)["output"].tolist() == expected.tolist()
    assert main(["test", *SMALL, "--ckpt_path", "last", *name]) == 0
    client, found = versions(store, "later")
    logged = [client.get_logged_model(each.source.removeprefix("models:/")) for each in found]
    checkpoints = {each.tags["checkpoint"] for each in logged}
    assert len(checkpoints) == 2
    assert "last.ckpt" in checkpoints


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trainer.logger", "false"], "no MLflow logger: add"),
        (["--trainer.enable_checkpointing", "false"], "enable_checkpointing false does not"),
    ],
)
def test_what_cannot_be_logged_is_refused(arguments, says, working_folder, store, capsys):
    assert main([*FIT, "--model_logger.log", "true", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not [*working_folder.iterdir()]


def test_onnx_without_its_packages_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # its import fails
    ModelLogger(format="onnx")
    with pytest.raises(ConfigurationError, match=r"rl_lightning\[onnx\]"):
        ModelLogger(log=True, format="onnx")


def test_a_store_that_fails_does_not_end_the_run(working_folder, store, monkeypatch, capsys):
    def lost(*args, **kwargs):
        raise ConnectionError("gone")

    monkeypatch.setattr("mlflow.models.Model.log", lost)
    with pytest.warns(UserWarning, match=r"not logged \(ConnectionError: gone\): log it later"):
        assert main([*FIT, "--model_logger.log", "true"]) == 0


@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("dqn", [[0.0, float("nan"), 0.0, 0.0], [float("inf")] * 4, [-float("inf")] * 4]),
        ("q-learning", [5, -1, 2**40]),
        ("dqn of bytes", []),
    ],
)
def test_a_model_refuses_observations_that_cannot_be(name, refused, format, tmp_path):
    module, inputs = made(AGENTS[name])
    if format == "onnx":
        onnx_program(module).save(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")

        def call(rows):
            return torch.from_numpy(session.run(None, {"observations": rows.numpy()})[0])
    else:
        shapes = ({0: torch.export.Dim("batch")},)
        example = (module.example_input_array,)
        call = torch.export.export(CheckedForward(module), example, dynamic_shapes=shapes).module()
    torch.testing.assert_close(call(inputs), module(inputs))
    for row in refused:
        wrong = inputs.clone()
        wrong[-1] = torch.tensor(row).to(inputs.dtype)
        with pytest.raises(Exception, match="observations_are_not_finite_or_out_of_range"):
            call(wrong)
