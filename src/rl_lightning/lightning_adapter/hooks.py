"""Calls Lightning's hooks at every batch without the work whose result nobody reads.

Lightning 2.6 calls every hook of every callback and of the module, also the empty ones. Around each
call it builds a name for the profiler, enters the profiler's context, and sets an attribute of the
module, for which torch first checks whether the value is a parameter. With small networks all this
takes longer than the update. It also asks again at each batch what cannot change during a run.
"""

import os
from functools import cache, partial
from logging import DEBUG
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

# Hooks of Lightning's own module that do nothing, by name.
EMPTY_HOOKS: dict[str, Any] = {
    name: getattr(LightningModule, name)
    for name in (
        "on_train_batch_start",
        "on_train_batch_end",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_before_zero_grad",
    )
}

_callback_hooks = call._call_callback_hooks
_module_hook = call._call_lightning_module_hook
_strategy_hook = call._call_strategy_hook
_equal_strings = RunningStage.__eq__


def call_hooks_directly(trainer: Trainer) -> None:
    """Make the hooks of this Trainer cheaper, until it runs again.

    Hooks are called as before, in the same order and with the same arguments. A Trainer with a
    profiler, or with Lightning's debug messages, is not changed.

    Args:
        trainer: At the start of a run, with its module and datamodule.
    """
    vars(trainer).pop("_hooks_of_callbacks", None)
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if type(profiler) is not PassThroughProfiler or call.log.isEnabledFor(DEBUG):
        return
    # By name, the callbacks and their hooks that are not empty.
    trainer._hooks_of_callbacks = {}  # type: ignore[attr-defined]
    selector: Any = trainer._data_connector._datahook_selector
    if selector is not None:
        selector.get_instance = cache(selector.get_instance)
    loop: Any = trainer.fit_loop.epoch_loop
    takes_index = is_param_in_hook_signature(
        trainer.lightning_module.training_step, "batch_idx", min_args=2
    )
    loop._build_kwargs = partial(_training_step_arguments, takes_index)
    if torch.cuda.device_count() == 0:
        # Lightning sets this variable to "1". Adam then loads the driver's library at every step,
        # to find out whether there is a GPU.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def _training_step_arguments(
    takes_index: bool, arguments: dict[str, Any], batch: Any, batch_idx: int
) -> dict[str, Any]:
    arguments["batch"] = batch
    if takes_index:
        arguments["batch_idx"] = batch_idx
    return arguments


def _call_callback_hooks(
    trainer: Trainer,
    hook_name: str,
    *args: Any,
    monitoring_callbacks: bool | None = None,
    **kwargs: Any,
) -> None:
    module = trainer._accelerator_connector.strategy._lightning_module
    known = trainer.__dict__.get("_hooks_of_callbacks")
    if known is None or module is None or monitoring_callbacks is not None:
        return _callback_hooks(
            trainer, hook_name, *args, monitoring_callbacks=monitoring_callbacks, **kwargs
        )
    callbacks = (*trainer.callbacks,)  # type: ignore[attr-defined]
    if hook_name not in known or known[hook_name][0] != callbacks:  # the callbacks have changed
        empty = getattr(Callback, hook_name)
        hooks = [getattr(each, hook_name) for each in callbacks]
        hooks = [hook for hook in hooks if callable(hook) and _function(hook) is not empty]
        known[hook_name] = callbacks, hooks
    for hook in known[hook_name][1]:
        _call_named(module, hook_name, hook, (trainer, module, *args), kwargs)
    return None


def _call_module_hook(
    trainer: Trainer,
    hook_name: str,
    *args: Any,
    pl_module: LightningModule | None = None,
    **kwargs: Any,
) -> Any:
    module = pl_module or trainer._accelerator_connector.strategy._lightning_module
    if module is None or "_hooks_of_callbacks" not in trainer.__dict__:
        return _module_hook(trainer, hook_name, *args, pl_module=pl_module, **kwargs)
    hook = getattr(module, hook_name)
    if hook_name in EMPTY_HOOKS and _function(hook) is EMPTY_HOOKS[hook_name]:
        return None
    return _call_named(module, hook_name, hook, args, kwargs)


def _call_strategy_hook(trainer: Trainer, hook_name: str, *args: Any, **kwargs: Any) -> Any:
    strategy = trainer._accelerator_connector.strategy
    module = strategy._lightning_module
    if module is None or "_hooks_of_callbacks" not in trainer.__dict__:
        return _strategy_hook(trainer, hook_name, *args, **kwargs)
    return _call_named(module, hook_name, getattr(strategy, hook_name), args, kwargs)


def _call_named(
    module: LightningModule, name: str, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a hook while the module knows its name, which `LightningModule.log` needs."""
    attributes = module.__dict__  # without the checks of `nn.Module.__setattr__`
    previous, attributes["_current_fx_name"] = attributes["_current_fx_name"], name
    output = hook(*args, **kwargs) if callable(hook) else None
    attributes["_current_fx_name"] = previous
    return output


def _function(hook: Any) -> Any:
    return getattr(hook, "__func__", hook)


def _equal_stages(stage: RunningStage, other: object) -> bool:
    # The comparison of Lightning's enums builds lower-case strings.
    return stage is other or _equal_strings(stage, other)


call._call_callback_hooks = _call_callback_hooks
call._call_lightning_module_hook = _call_module_hook
call._call_strategy_hook = _call_strategy_hook
RunningStage.__eq__ = _equal_stages  # type: ignore[assignment,method-assign]
