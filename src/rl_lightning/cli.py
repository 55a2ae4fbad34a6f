"""The front door: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file; every value in it can be overridden by a flag of its path.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

# A short class name in YAML is that of an imported class.
from rl_lightning import callbacks, datamodules, modules  # noqa: F401
from rl_lightning.allocator import keep_freed_memory
from rl_lightning.callbacks.safeguards import Safeguards, StoppedError
from rl_lightning.callbacks.tracking import MLflowTracker, TrackConfig, run_folder
from rl_lightning.checkpoints import AtomicCheckpoints, load_plain
from rl_lightning.errors import ConfigurationError, RunError, one_line
from rl_lightning.ranks import is_loss_of_another, let_threads_finish

_IRRELEVANT_WARNINGS = (
    # A length is what keeps Lightning from fetching ahead; and there are no workers.
    r"Your `IterableDataset` has `__len__` defined",
    # One process feeds the environments: more workers would be more environments.
    r"The '\w+_dataloader' does not have many workers",
    # Nor are there indices into a stream of games.
    r"Couldn't infer the batch indices",
    # A checkpoint of elsewhere begins a run in a folder of its own; one of a run goes on in its.
    r"The dirpath has changed from",
    r"Checkpoint directory .* exists and is not empty",
    # Between Lightning and torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)

_LOST = "another process of this run is gone: what it said before it went is the reason"


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, where argparse would print pages of usage first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigurationError(_essence(message)) from ex


def _essence(message: str) -> str:
    """The lines of a parser's message that name the mistake.

    Where a value may be of several types, jsonargparse lists the complaint of each and
    then the whole value.
    """
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [
        re.sub(r"^Expected a dot import path string: (.+)", r"there is no class \1", line)
        for line in lines
        if not line.startswith(noise) and line != "Expected a <class 'NoneType'>"
    ]
    said = re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(dict.fromkeys(kept)))
    return "a --config file is empty" if said == "Unexpected config:" else said


@contextmanager
def _configuring() -> Iterator[None]:
    """Whatever fails while the configuration is read is about the configuration."""
    try:
        yield
    except Exception as error:
        if _error_for_people(error) is not None:
            raise
        raise ConfigurationError(
            f"the configuration cannot be used: {type(error).__name__}: {error}"
        ) from error


class _CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--num_threads",
            type=int | None,
            default=None,
            help="Threads of torch on the CPU. One is fastest for small networks.",
        )
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        for shape in ("environment", "image_shape", "num_classes"):
            parser.link_arguments(
                f"data.{shape}", f"model.init_args.{shape}", apply_on="instantiate"
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration."""
        with _configuring():
            super().parse_arguments(parser, args)

    def instantiate_classes(self) -> None:
        """Make what the configuration names."""
        with _configuring():
            super().instantiate_classes()

    def _parse_ckpt_path(self) -> None:
        """The configuration says what the module is; a checkpoint that differs is refused."""

    def before_instantiate_classes(self) -> None:
        keep_freed_memory()
        num_threads = self._get(self.config, "num_threads")
        if num_threads is not None:
            if num_threads < 1:
                raise ConfigurationError(f"num_threads is {num_threads}: it is at least 1")
            torch.set_num_threads(num_threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the Trainer safeguards, whole checkpoints, and a progress bar that costs little."""
        config = self._get(self.config_init, "trainer")
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        if config.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in given
        ):
            given = [*given, TQDMProgressBar(refresh_rate=25)]
        kwargs["callbacks"] = [*given, Safeguards()]
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        return super().instantiate_trainer(plugins=[*plugins, AtomicCheckpoints()], **kwargs)

    def after_instantiate_classes(self) -> None:
        """Find and look into the checkpoint, and go on with its run."""
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cpu":
            let_threads_finish()
        asked = self._get(self.config, "ckpt_path")
        trackers = [each for each in self.trainer.loggers if isinstance(each, MLflowTracker)]
        if asked == "last" and trackers:
            asked = str(trackers[0].last_checkpoint())
            self.config_init[self.subcommand]["ckpt_path"] = asked
        elif asked == "last" and self.subcommand != "fit":
            raise ConfigurationError(
                "--ckpt_path last is looked for in the runs of the MLflowTracker, and there is "
                "none in trainer.logger: give the checkpoint's path"
            )
        if asked is None or asked in ("best", "last", "hpc", "registry"):
            return
        _check_fits(Path(asked), self.model)
        if self.subcommand == "fit":
            for tracker in trackers:
                tracker.go_on_with(Path(asked))

    def after_fit(self) -> None:
        """End on one line: how good the agent is, and where it and its run are."""
        if not self.trainer.is_global_zero:
            return
        checkpoint = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        score = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        monitor = getattr(self.trainer.checkpoint_callback, "monitor", None)
        what = "Greedy return" if monitor == "val/return" else monitor
        said = [] if score is None else [f"{what} {score:.4g}"]
        if checkpoint:
            said.append(f"checkpoint {os.path.relpath(checkpoint)}")
        said.append(f"run {run_folder(self.trainer)}")
        print(", ".join(said), flush=True)


def _check_fits(path: Path, model: LightningModule) -> None:
    """Compare a checkpoint with the module before anything starts.

    Raises:
        ConfigurationError: If the file is missing, unreadable or of another network.
    """
    saved = load_plain(path)
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise ConfigurationError(f"{path} holds no weights: take one from a run's checkpoints")
    weights = saved["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(shapes.keys() | weights.keys()):
        theirs = tuple(weights[name].shape) if name in weights else None
        if theirs != shapes.get(name):
            raise ConfigurationError(
                f"checkpoint {path} does not fit this configuration: {name} is {theirs} there and "
                f"{shapes.get(name)} here: use the configuration that the checkpoint was made with"
            )


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    for irrelevant in _IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=irrelevant)
    try:
        _CLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            save_config_callback=TrackConfig,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            parser_class=_Parser,
            parser_kwargs={"prog": "python -m rl_lightning"},
            args=args,
        )
    except StoppedError as stopped:
        _say(f"rl_lightning: {stopped}")
        return 128 + stopped.signum
    except Exception as error:
        if is_loss_of_another(error):
            print(f"rl_lightning: error: {_LOST}", file=sys.stderr, flush=True)
            return 1
        if (said := _error_for_people(error)) is None:
            raise
        _say(f"rl_lightning: error: {one_line(str(said))}")
        return 1 if isinstance(said, RunError) else 2
    return 0


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _error_for_people(error: BaseException | None) -> BaseException | None:
    """Find the error that is for people: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(
        error, (ConfigurationError, MisconfigurationException, RunError)
    ):
        error = error.__cause__ or error.__context__
    return error
