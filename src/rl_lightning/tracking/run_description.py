"""What a run is called in MLflow, and the parameters and tags by which runs are compared."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Folders, links and what is only shown, which say nothing about the experiment.
_LEFT_OUT = (
    "config",
    "ckpt_path",
    "data.seed",
    "trainer.default_root_dir",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.logger",
)


class RunDescription(NamedTuple):
    """The identity of a run."""

    experiment: str
    name: str
    parameters: dict[str, str]
    tags: dict[str, str]


def describe_run(
    module: Any, data: Any, command: str, config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> RunDescription:
    """Describe a run by its configuration.

    The parameters have the names of the flags, such as `model.optimizer.lr`. They are all values
    of the module and the datamodule, and those values of the Trainer and the callbacks that differ
    from the defaults. So two runs differ in the parameters that the user has changed.

    Args:
        module: Its `algorithm`, or else its class, is the name of the algorithm.
        data: Its `task`, or else its class, is the name of the task.
        command: The command line, which becomes the description.
        config: The resolved configuration, as in the YAML file.
        defaults: The configuration without any YAML file or flag.
    """
    algorithm = getattr(module, "algorithm", type(module).__name__)
    task = getattr(data, "task", type(data).__name__)
    ordinary = dict(_flat(defaults))
    parameters = {
        key: value
        for key, value in _flat(config)
        if key.partition(".")[0] in ("model", "data", "seed_everything")
        or ordinary.get(key) != value
    }
    seed = str(config["seed_everything"])
    return RunDescription(
        experiment=f"{algorithm}-{task}",
        name=f"{algorithm}-{task}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}",
        parameters=parameters,
        tags={
            "algorithm": algorithm,
            "environment": task,
            "seed": seed,
            "command": command,
            "mlflow.note.content": f"`{command}`",  # the description, which is Markdown
        },
    )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a configuration, without `class_path`, `init_args` and empty values."""
    if value is None or key in _LEFT_OUT:
        return
    if _is_object(value):
        yield key, _class_name(value)
        value = {**(value.get("init_args") or {}), **(value.get("dict_kwargs") or {})}
    if isinstance(value, Mapping):
        for name, each in value.items():
            part = re.sub(r"[^\w. /-]", "_", str(name))  # MLflow refuses other characters
            yield from _flat(each, f"{key}.{part}" if key else part)
    elif isinstance(value, list) and value and all(_is_object(each) for each in value):
        for each in value:
            yield from _flat(each, f"{key}.{_class_name(each)}")
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_path" in value


def _class_name(value: Mapping[str, Any]) -> str:
    name: str = value["class_path"].rpartition(".")[2]
    return name
