"""Hooks are called as Lightning calls them, without its work around each call."""

import ast
import inspect
import textwrap

import pytest
import torch
from lightning import Callback, LightningDataModule
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import DataLoader

from rl_lightning.lightning_adapter.hooks import EMPTY_HOOKS, call_hooks_directly
from small_module import SmallModule
from trainers import quiet

CALLBACK_HOOKS = [name for name in vars(Callback) if name.startswith("on_")] + ["setup", "teardown"]
MODULE_HOOKS = [*EMPTY_HOOKS, "on_train_start", "optimizer_zero_grad", "on_after_batch_transfer"]
DATA_HOOKS = ["on_before_batch_transfer", "transfer_batch_to_device"]
STRATEGY_HOOKS = ["on_train_batch_start", "training_step", "backward", "validation_step"]


def watch(owner, names, calls):
    """Let a new subclass of the owner's class note its hooks, with what the hook can see."""

    def noting(name):
        inner = getattr(type(owner), name)

        def hook(self, *args, **kwargs):
            module = owner if isinstance(owner, SmallModule) else calls.module
            shown = [each for each in args if isinstance(each, int | str)]
            calls.append((type(self).__name__, name, shown, module._current_fx_name))
            return inner(self, *args, **kwargs)

        return hook

    kind = type(owner)
    owner.__class__ = type(
        f"Noting{kind.__name__}", (kind,), {name: noting(name) for name in names}
    )


class Calls(list):
    module: SmallModule


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.ones(4, 2), 1)

    val_dataloader = train_dataloader


class OneHook(Callback):
    def on_after_backward(self, trainer, pl_module):
        pl_module.log("gradient", pl_module.layer.weight.grad.norm())


class Module(SmallModule):
    directly = True

    def configure_callbacks(self):
        if self.directly:
            call_hooks_directly(self.trainer)
        return []


def calls_of_a_run(directly, **flags):
    torch.manual_seed(0)
    calls = Calls()
    module, data, callback = Module(), Data(), Callback()
    module.directly, calls.module = directly, module
    one = LambdaCallback(on_before_zero_grad=lambda *_: calls.append("LambdaCallback"))
    flags = {"max_epochs": 2, "accumulate_grad_batches": 2, "gradient_clip_val": 0.1, **flags}
    trainer = quiet(**flags, callbacks=[OneHook(), callback, Callback(), one])
    watch(module, MODULE_HOOKS, calls)
    watch(data, DATA_HOOKS, calls)
    watch(callback, CALLBACK_HOOKS, calls)
    watch(trainer.strategy, STRATEGY_HOOKS, calls)
    trainer.fit(module, data)
    calls.append([*trainer.callback_metrics.items()])
    calls.append([each.tolist() for each in module.parameters()])
    return calls


def test_the_hooks_are_lightnings():
    direct = calls_of_a_run(True)
    assert direct == calls_of_a_run(False)
    names = {call[1] for call in direct if isinstance(call, tuple)}
    assert {*EMPTY_HOOKS, *DATA_HOOKS, *STRATEGY_HOOKS, "setup", "teardown"} <= names


def test_a_training_step_without_an_index_gets_none():
    class Short(Module):
        def training_step(self, batch):
            return self.layer(batch).square().mean()

    quiet(max_steps=1).fit(Short(), SmallModule.loader())


def test_a_callback_that_is_added_in_training_is_called():
    added = []

    class Adding(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 1:
                note = LambdaCallback(on_train_batch_end=lambda *args: added.append(args[-1]))
                trainer.callbacks.append(note)

    quiet(max_epochs=1, callbacks=[Adding()]).fit(Module(), SmallModule.loader(4))
    assert added[-2:] == [2, 3]


def test_a_second_run_with_another_module():
    trainer = quiet(max_steps=1)
    trainer.fit(Module(), SmallModule.loader())

    class Other(SmallModule):
        def configure_callbacks(self):
            call_hooks_directly(self.trainer)
            return [OneHook()]

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.ended = True

    other = Other()
    trainer.fit_loop.epoch_loop.max_steps = 2
    trainer.fit(other, SmallModule.loader())
    assert other.ended
    assert "gradient" in trainer.callback_metrics


def test_a_profiler_still_records_all_hooks():
    recorded = []
    for directly in (True, False):
        profiler = SimpleProfiler()
        calls_of_a_run(directly, profiler=profiler)
        recorded.append({name: len(times) for name, times in profiler.recorded_durations.items()})
    assert recorded[0] == recorded[1]
    assert any("Callback.on_after_backward" in name for name in recorded[0])


def statements(function):
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
    return [each for each in body if not isinstance(each, ast.Expr | ast.Pass)]


@pytest.mark.parametrize("function", EMPTY_HOOKS.values(), ids=EMPTY_HOOKS)
def test_the_hooks_that_are_not_called_in_a_module_are_empty(function):
    assert statements(function) == []


@pytest.mark.parametrize("name", CALLBACK_HOOKS)
def test_the_hooks_that_are_not_called_in_a_callback_are_empty(name):
    assert statements(getattr(Callback, name)) == []


def test_stages_are_compared_as_before():
    for stage in RunningStage:
        equal = [other for other in RunningStage if stage == other]
        assert equal == [stage]
        assert stage == stage.value.upper()
