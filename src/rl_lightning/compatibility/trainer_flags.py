"""Refuses Trainer flags that cannot be used with a module or datamodule, before training.

Lightning itself finds most of these mistakes only after the start of the run, or not at all.
`docs/trainer_flags.md` has the table of all flags.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks, strategies
from torch import nn

from rl_lightning.lightning_adapter.trainers import start_method
from rl_lightning.runtime.errors import ConfigurationError


def check_flags(trainer: Trainer, module: LightningModule, fitting: bool, data: Any = None) -> None:
    """Check the Trainer's flags and callbacks against a module and its datamodule.

    Args:
        trainer: A Trainer that has not started yet.
        module: The module that it trains or tests.
        fitting: Whether it trains. Most flags are only checked for training.
        data: The datamodule. If it has `batches_of(stage)`, this must return the number of
            batches of an epoch on each rank.

    Raises:
        ConfigurationError: For the first flag that cannot be used.
    """
    check_strategy(trainer)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if (mistake := _mistake_of(callback, trainer, module, fitting)) is not None:
            raise ConfigurationError(mistake)
    if fitting:
        batches_of = getattr(data, "batches_of", lambda stage: None)
        for mistake in chain(_optimization(trainer, module), _batches(trainer, batches_of)):
            raise ConfigurationError(mistake)


def check_strategy(trainer: Trainer) -> None:
    """Check that each process has all weights, and that environments need not be pickled.

    Raises:
        ConfigurationError: If not.
    """
    strategy = trainer.strategy
    if isinstance(
        strategy,
        strategies.FSDPStrategy | strategies.DeepSpeedStrategy | strategies.ModelParallelStrategy,
    ):
        raise ConfigurationError(
            f"trainer.strategy is {type(strategy).__name__}, which splits the weights over "
            "devices, and a policy needs all of its weights to act between updates: use ddp"
        )
    if start_method(strategy) not in (None, "fork"):
        raise ConfigurationError(
            "trainer.strategy starts processes by pickling (spawn), and environments cannot be "
            "pickled: use ddp"
        )


def _mistake_of(
    callback: Callback, trainer: Trainer, module: LightningModule, fitting: bool
) -> str | None:
    """Why a callback cannot be used; None if it can."""
    name, here = type(callback).__name__, type(module).__name__
    take_out = f"take {name} out of trainer.callbacks"
    trial_run: bool = trainer.fast_dev_run  # type: ignore[attr-defined]
    has_logger = trainer.loggers or trial_run
    if (
        isinstance(callback, callbacks.LearningRateMonitor | callbacks.ThroughputMonitor)
        and not has_logger
    ):
        return (
            f"{name} writes to a logger, and trainer.logger is false: give a logger, such as "
            f"CSVLogger, or {take_out}"
        )
    if not fitting:
        return None
    if isinstance(callback, callbacks.BatchSizeFinder | callbacks.LearningRateFinder):
        return (
            f"{name} makes updates on trial, and with them experience that the run would keep: "
            f"{take_out}"
        )
    if isinstance(callback, callbacks.BackboneFinetuning) and not hasattr(module, "backbone"):
        return f"{name} freezes the submodule backbone, and {here} has none: {take_out}"
    if isinstance(callback, callbacks.ModelPruning) and not any(
        isinstance(each, nn.Linear | nn.Conv2d) for each in module.modules()
    ):
        return f"{name} prunes layers, and {here} has none: {take_out}"
    changes_steps = isinstance(
        callback, callbacks.StochasticWeightAveraging | callbacks.GradientAccumulationScheduler
    )
    if changes_steps and not module.automatic_optimization:
        return f"{name} changes optimizer steps, and {here} takes its own: {take_out}"
    if isinstance(callback, callbacks.EarlyStopping | callbacks.ModelCheckpoint):
        validates = trainer.limit_val_batches != 0 or trial_run
        if not validates and str(callback.monitor).startswith("val/"):
            return (
                f"{name} watches {callback.monitor}, and trainer.limit_val_batches is 0, so that "
                "no validation ever logs it: watch a metric of train/, or allow validation"
            )
    return None


def _optimization(trainer: Trainer, module: LightningModule) -> Iterator[str]:
    precision, clip = str(trainer.precision), trainer.gradient_clip_val
    if precision == "16-true":
        yield (
            "trainer.precision is 16-true, and float16 weights overflow and underflow without a "
            "loss scale (Adam's eps of 1e-8 becomes 0): use 16-mixed or bf16-mixed"
        )
    if precision == "bf16-true" and not getattr(module, "takes_rounded_batches", True):
        yield (
            "trainer.precision is bf16-true, which rounds rewards, discounts and returns to 8 bits "
            "before a module sees them (0.99 becomes 0.988): use bf16-mixed"
        )
    if clip is not None and clip < 0:
        yield f"trainer.gradient_clip_val is {clip}: make it above 0, or null to clip nothing"
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        yield (
            "trainer.overfit_batches trains on the same batches again and again, and each batch is "
            "made when it is asked for: use trainer.limit_train_batches for short epochs"
        )


def _batches(trainer: Trainer, batches_of: Callable[[str], int | None]) -> Iterator[str]:
    for flag, stage in (("limit_train_batches", "train"), ("limit_val_batches", "validate")):
        limit = getattr(trainer, flag)
        known = batches_of(stage) if isinstance(limit, float) and 0 < limit < 1 else None
        if known is not None and int(known * limit) == 0:
            yield (
                f"trainer.{flag} is {limit}, which leaves less than one of the {known} batches of "
                "an epoch: give a whole number, such as 1"
            )
    interval: Any = getattr(trainer, "val_check_interval", None)  # not there if it is a duration
    in_epochs = isinstance(interval, int) and trainer.check_val_every_n_epoch is not None
    if in_epochs and trainer.limit_val_batches != 0 and (known := batches_of("train")):
        limit = trainer.limit_train_batches
        known = min(known, limit) if isinstance(limit, int) else int(known * limit)
        if interval > known:
            yield (
                f"trainer.val_check_interval is {interval}, and an epoch has {known} batches: give "
                "at most as many, or set trainer.check_val_every_n_epoch to null to count over "
                "epochs"
            )
