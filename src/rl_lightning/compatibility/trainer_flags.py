"""Refuses Trainer flags that cannot be used with a module or datamodule, before training.

Lightning itself finds most of these mistakes only after the start of the run, or not at all.
`docs/trainer_flags.md` has the table of all flags.
"""

from collections.abc import Callable, Iterator
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    ThroughputMonitor,
)
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from rl_lightning.lightning_adapter.trainers import start_method
from rl_lightning.runtime.errors import ConfigurationError

BatchesOf = Callable[[str], int | None]


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
    found = [*_loggers(trainer)]
    if fitting:
        batches_of: BatchesOf | None = getattr(data, "batches_of", None)
        found += [
            *_precision(trainer, module),
            *_optimization(trainer),
            *_callbacks(trainer, module),
            *_monitors(trainer),
        ]
        if batches_of is not None and not found:
            found += [*_batches(trainer, batches_of)]
    if found:
        raise ConfigurationError(found[0])


def check_strategy(trainer: Trainer) -> None:
    """Check that each process has all weights, and that environments need not be pickled.

    Raises:
        ConfigurationError: If not.
    """
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
        raise ConfigurationError(
            f"trainer.strategy is {type(strategy).__name__}, which splits the weights over "
            "devices, and a policy needs all of its weights to act between updates: use ddp"
        )
    if start_method(strategy) not in (None, "fork"):
        raise ConfigurationError(
            "trainer.strategy starts processes by pickling (spawn), and environments cannot be "
            "pickled: use ddp"
        )


def _loggers(trainer: Trainer) -> Iterator[str]:
    needing = (LearningRateMonitor, ThroughputMonitor)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, needing) and not trainer.loggers and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            name = type(callback).__name__
            yield (
                f"{name} writes to a logger, and trainer.logger is false: give a logger, such as "
                f"CSVLogger, or take {name} out of trainer.callbacks"
            )


def _precision(trainer: Trainer, module: LightningModule) -> Iterator[str]:
    precision = str(trainer.precision)
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


def _optimization(trainer: Trainer) -> Iterator[str]:
    clip = trainer.gradient_clip_val
    if clip is not None and clip < 0:
        yield f"trainer.gradient_clip_val is {clip}: make it above 0, or null to clip nothing"
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        yield (
            "trainer.overfit_batches trains on the same batches again and again, and each batch is "
            "made when it is asked for: use trainer.limit_train_batches for short epochs"
        )


def _callbacks(trainer: Trainer, module: LightningModule) -> Iterator[str]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if (reason := _misfit(callback, module)) is not None:
            yield f"{reason}: take {type(callback).__name__} out of trainer.callbacks"


def _misfit(callback: Callback, module: LightningModule) -> str | None:
    name, here = type(callback).__name__, type(module).__name__
    if isinstance(callback, BatchSizeFinder | LearningRateFinder):
        return f"{name} makes updates on trial, and with them experience that the run would keep"
    if isinstance(callback, BackboneFinetuning) and not hasattr(module, "backbone"):
        return f"{name} freezes the submodule backbone, and {here} has none"
    if isinstance(callback, ModelPruning) and not _has_layers(module):
        return f"{name} prunes layers, and {here} has none"
    scheduling = (StochasticWeightAveraging, GradientAccumulationScheduler)
    if isinstance(callback, scheduling) and not module.automatic_optimization:
        return f"{name} changes optimizer steps, and {here} takes its own"
    return None


def _has_layers(module: LightningModule) -> bool:
    return any(isinstance(each, nn.Linear | nn.Conv2d) for each in module.modules())


def _monitors(trainer: Trainer) -> Iterator[str]:
    if trainer.limit_val_batches != 0 or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        watches = isinstance(callback, EarlyStopping | ModelCheckpoint)
        if watches and str(monitor).startswith("val/"):
            yield (
                f"{type(callback).__name__} watches {monitor}, and trainer.limit_val_batches is 0, "
                "so that no validation ever logs it: watch a metric of train/, or allow validation"
            )


def _batches(trainer: Trainer, batches_of: BatchesOf) -> Iterator[str]:
    for flag, stage in (("limit_train_batches", "train"), ("limit_val_batches", "validate")):
        limit = getattr(trainer, flag)
        if not isinstance(limit, float) or not 0 < limit < 1:
            continue
        if (batches := batches_of(stage)) is not None and int(batches * limit) == 0:
            yield (
                f"trainer.{flag} is {limit}, which leaves less than one of the {batches} batches "
                "of an epoch: give a whole number, such as 1"
            )
    interval = getattr(trainer, "val_check_interval", None)  # not there if it is a duration
    if not isinstance(interval, int) or trainer.check_val_every_n_epoch is None:
        return
    if trainer.limit_val_batches != 0 and (batches := batches_of("train")):
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if interval > batches:
            yield (
                f"trainer.val_check_interval is {interval}, and an epoch has {batches} batches: "
                "give at most as many, or set trainer.check_val_every_n_epoch to null to count "
                "over epochs"
            )
