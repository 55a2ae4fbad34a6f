"""The front door: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file; every value in it can be overridden by a flag of its path.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from rl_lightning.callbacks.tracking import TrackConfig, run_folder
from rl_lightning.errors import ConfigurationError


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, where argparse would print pages of usage first."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigurationError(_one_line(message)) from ex


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

    def _parse_ckpt_path(self) -> None:
        """The configuration says what the module is; a checkpoint that differs is refused."""

    def before_instantiate_classes(self) -> None:
        num_threads = self._get(self.config, "num_threads")
        if num_threads is not None:
            if num_threads < 1:
                raise ConfigurationError(f"num_threads is {num_threads}: it is at least 1")
            torch.set_num_threads(num_threads)

    def after_instantiate_classes(self) -> None:
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint is not None and checkpoint not in ("best", "last", "hpc", "registry"):
            _check_fits(Path(checkpoint), self.model)

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
    if not path.is_file():
        raise ConfigurationError(f"there is no checkpoint {path}: look in the run folder for one")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    except Exception as error:
        raise ConfigurationError(
            f"{path} cannot be read as a checkpoint ({_one_line(str(error))[:120]})"
        ) from error
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(shapes.keys() | saved.keys()):
        theirs = tuple(saved[name].shape) if name in saved else None
        if theirs != shapes.get(name):
            raise ConfigurationError(
                f"checkpoint {path} does not fit this configuration: {name} is {theirs} there and "
                f"{shapes.get(name)} here: use the configuration that the checkpoint was made with"
            )


def _one_line(message: str) -> str:
    return " ".join(message.split())


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
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
    except ConfigurationError as error:
        print(f"rl_lightning: error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    return 0
