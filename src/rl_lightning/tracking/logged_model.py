"""Logs a module to MLflow as a model that can be loaded and served without this package."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from rl_lightning.lightning_adapter.graphs import zero_if

_REFUSAL = "observations_are_not_finite_or_out_of_range"


class CheckedForward(nn.Module):
    """`forward` of a module, which fails for observations that the environment cannot give.

    Shape and dtype are part of the model's signature, which MLflow enforces.

    Args:
        module: Floating-point observations must be finite, and Discrete ones in their range.
    """

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module
        environment: Any = getattr(module, "environment", {})
        self.num_observations: int | None = environment.get("num_observations")

    def forward(self, observations: Tensor) -> Tensor:
        """The output of the module."""
        if self.num_observations is not None:
            within = (observations >= 0) & (observations < self.num_observations)
        elif observations.is_floating_point():
            within = observations.isfinite()
        else:
            within = torch.ones(1, dtype=torch.bool)
        zero = zero_if(within.all(), _REFUSAL)
        outputs: Tensor = self.module(observations)
        return outputs + zero.to(outputs.dtype)


def log_model(
    module: LightningModule,
    tracking_uri: str,
    run_id: str,
    checkpoint: str,
    registered_model_name: str | None,
    format: Literal["torch", "onnx"],
) -> None:
    """Log `forward` of a module as an MLflow model with signature, example and requirements.

    Args:
        module: Its `example_input_array` [2, ...] gives shape and dtype of one observation.
        tracking_uri: Address of the store.
        run_id: The run that the model belongs to.
        checkpoint: Name of the checkpoint, which becomes a tag.
        registered_model_name: Name in the registry; None registers nothing.
        format: "torch" or "onnx".
    """
    import mlflow.pytorch
    from mlflow.models import Model, infer_signature

    example: Any = module.example_input_array
    module.eval().requires_grad_(False)
    outputs: Tensor = module(example)
    inputs = example.numpy()
    options: dict[str, Any] = {
        "run_id": run_id,
        "registered_model_name": registered_model_name,
        "signature": infer_signature(inputs, outputs.numpy()),
        "input_example": inputs,
    }
    if format == "onnx":
        import mlflow.onnx

        libraries = ["onnx", "onnxruntime", "numpy"]
        options |= {"flavor": mlflow.onnx, "onnx_model": onnx_program(module).model_proto}
        options["save_as_external_data"] = False
    else:
        libraries = ["torch", "numpy"]
        options |= {"flavor": mlflow.pytorch, "pytorch_model": CheckedForward(module)}
        options["serialization_format"] = "pt2"
    # Given explicitly, because MLflow would start a process to find them.
    options["pip_requirements"] = [
        f"mlflow=={version('mlflow')}",
        *(f"{name}=={version(name).partition('+')[0]}" for name in libraries),
    ]
    with _store(tracking_uri):
        client = mlflow.MlflowClient()
        run = client.get_run(run_id)
        # `Model.log` would create it in the default experiment, and not in that of the run.
        logged = client.create_logged_model(
            run.info.experiment_id,
            name="model",
            source_run_id=run_id,
            tags={"algorithm": getattr(module, "algorithm", ""), "checkpoint": checkpoint},
            params=run.data.params,
        )
        Model.log(artifact_path=None, model_id=logged.model_id, **options)


def onnx_program(module: LightningModule) -> Any:
    """Convert `forward` to a `torch.onnx.ONNXProgram` with any number of observations.

    Its input is called "observations", and its output "output".
    """
    program = torch.onnx.export(
        CheckedForward(module).eval(),
        (module.example_input_array,),
        dynamo=True,
        verbose=False,
        input_names=["observations"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    for node in program.model.graph:
        if node.name == "node_index_select":  # the runtime prints the name with the error
            node.name = _REFUSAL
    return program


@contextmanager
def _store(tracking_uri: str) -> Iterator[None]:
    """Let MLflow's functions use a store, without its messages on each step of the logging."""
    import mlflow

    before, variable = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    mlflow.set_tracking_uri(tracking_uri)  # which sets the environment variable too
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable
        logging.disable(disabled)
