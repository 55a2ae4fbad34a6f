"""What constructors refuse, and what help() shows."""

import copy
import inspect
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

import numpy as np
import pytest
import torch
from annotated_types import Ge
from jsonargparse import ArgumentParser
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import Unpack

from rl_lightning import datamodules, modules
from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule, TabularDataModule
from rl_lightning.modules import A2C, DQN, SAC, RecurrentAttentionModel, Reinforce
from rl_lightning.modules.recurrent_attention.ram import RAMLearningOptions
from rl_lightning.runtime.constructors import CheckedConstructor, require_range
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

DISCRETE, BOX = spec(num_actions=2), spec(action_shape=(2,))


def adam(**options: Any) -> Any:
    return partial(torch.optim.Adam, **options)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: A2C(DISCRETE, advantage="td"),
            "advantage of A2C is 'td': choose one of monte_carlo, n_step, gae",
        ),
        (
            lambda: DQN(DISCRETE, network=torch.nn.Identity()),
            "network of DQN is Identity(): choose one of mlp, atari_2013, nature",
        ),
        (
            lambda: RecurrentAttentionModel((1, 28, 28), 10, network=3),
            "network of RecurrentAttentionModel is 3: it must be an instance of RAMNetworkOptions",
        ),
        (
            lambda: RecurrentAttentionModel((1, 28, 28), 10, learning=RAMLearningOptions(std="x")),
            "std of RAMLearningOptions is 'x': it must be a valid number",
        ),
        (lambda: DQN(DISCRETE, loss="mse"), "loss of DQN is 'mse': choose one of squared, huber"),
        (lambda: A2C(DISCRETE, optimizer=3), "optimizer of A2C is 3: it must be callable"),
        (
            lambda: A2C(DISCRETE, optimizer=adam(lr=-1)),
            "optimizer of A2C cannot be made: Invalid learning rate: -1",
        ),
        (
            lambda: A2C(DISCRETE, lr_scheduler=partial(LambdaLR, lr_lambda=[])),
            "lr_scheduler of A2C cannot be made: Expected 1 lr_lambdas, but got 0",
        ),
        (
            lambda: A2C(DISCRETE, optimizer=torch.nn.Identity),
            "optimizer of A2C makes a Identity: give a torch.optim.Optimizer, such as "
            "functools.partial(torch.optim.Adam, lr=1e-3)",
        ),
        (
            lambda: DQN(DISCRETE, epsilon_end=float("nan")),
            "epsilon_end of DQN is nan: it must be a finite number",
        ),
        (
            lambda: A2C(DISCRETE, critic_learning_rate="0.1"),
            "critic_learning_rate of A2C is '0.1': it must be a valid number",
        ),
        (
            lambda: A2C(DISCRETE, shared_body=1),
            "shared_body of A2C is 1: it must be a valid boolean",
        ),
        (lambda: SAC(BOX, hidden_sizes="88"), "hidden_sizes of SAC is '88': it must be a list"),
        (
            lambda: SAC(BOX, hidden_sizes=[8, 2.5]),
            "hidden_sizes of SAC is [8, 2.5]: it must be a valid integer",
        ),
        (lambda: A2C("x"), "environment of A2C is 'x': it must be a valid dictionary"),
        (
            lambda: A2C(DISCRETE, netwrk="mlp"),
            "A2C has no option netwrk: choose one of network",
        ),
        (
            lambda: RolloutDataModule("CartPole-v1", rollout_length=5, engine="gym"),
            "engine of RolloutDataModule is 'gym': choose one of gymnasium, envpool",
        ),
        (
            lambda: RolloutDataModule("CartPole-v1", rollout_length=5, num_envs=2.0),
            "num_envs of RolloutDataModule is 2.0: it must be a valid integer",
        ),
        (
            lambda: RolloutDataModule("CartPole-v1", rollout_length=5, seed=-1),
            "seed is -1: make it at least 0",
        ),
        (
            lambda: ReplayDataModule("CartPole-v1", importance_exponent=1.5),
            "importance_exponent is 1.5: choose it in [0, 1]",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make()
    assert str(error.value) == said


def test_lists_numbers_of_numpy_and_integers_for_floats_are_accepted() -> None:
    agent = A2C(
        DISCRETE,
        hidden_sizes=[np.int64(3)],
        gae_lambda=1,
        value_coefficient=np.float32(0.5),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )
    assert agent.body.features == 3
    with_numpy = ReplayDataModule("CartPole-v1", num_envs=np.int64(2))
    assert with_numpy.num_envs == 2


def test_an_optimizer_that_needs_the_modules_own_parameters_is_accepted() -> None:
    def of_groups(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD([group | {"lr": 0.1} for group in groups])

    A2C(DISCRETE, optimizer=of_groups).configure_optimizers()


def test_a_check_draws_no_random_number() -> None:
    torch.manual_seed(0)
    first = DQN(DISCRETE, optimizer=adam(lr=0.1)).state_dict()
    torch.manual_seed(0)
    body = DQN.__new__(DQN)
    body.__init__(DISCRETE)
    assert all(torch.equal(first[name], value) for name, value in body.state_dict().items())


def test_modules_can_be_copied_and_pickled() -> None:
    agent = DQN(DISCRETE)
    for again in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert again.hparams == agent.hparams


class BaseOptions(TypedDict, total=False):
    """The options of `Base` that are passed on."""

    kind: Literal["a", "b"]
    size: int


class Base(CheckedConstructor):
    """A base class.

    Args:
        where: Given by the subclass.
        kind: One of two
            kinds.
        size: A number.
    """

    def __init__(self, where: str, kind: Literal["a", "b"] = "a", size: int = 3) -> None:
        self.given = (where, kind, size)


class Derived(Base):
    """A subclass.

    Args:
        where: Given.
        more: Its own option.
        options: See `Base`.

    Raises:
        Nothing.
    """

    def __init__(self, where: str, more: int = 1, **options: Unpack[BaseOptions]) -> None:
        super().__init__(where, **options)


class Inheriting(Derived):
    """A class with the constructor of its base class."""


class Untyped(Derived):
    """A user's class, which passes on what it gets."""

    def __init__(self, where: str, **options: Any) -> None:
        super().__init__(where, **options)


def test_the_signature_has_the_options_of_the_base_class() -> None:
    expected = "(where: str, more: int = 1, *, kind: Literal['a', 'b'] = 'a', size: int = 3)"
    assert str(inspect.signature(Derived)).replace("typing.", "") == expected
    assert inspect.signature(Inheriting) == inspect.signature(Derived)
    assert Inheriting("here", 2).given == ("here", "a", 3)
    assert Derived("here", kind="b").given == ("here", "b", 3)
    assert [*inspect.signature(Untyped).parameters] == ["where", "more", "kind", "size"]
    with pytest.raises(ConfigurationError, match="size of Untyped is '3'"):
        Untyped("here", size="3")


def test_the_docstring_has_the_options_of_the_base_class() -> None:
    assert inspect.cleandoc(Derived.__doc__) == inspect.cleandoc(
        """A subclass.

        Args:
            where: Given.
            more: Its own option.
            kind: One of two
                kinds.
            size: A number.

        Raises:
            Nothing.
        """
    )


def classes_with_typed_options() -> Iterator[tuple[type, Any]]:
    """Each class with `**options: Unpack[Options]`, and these options."""
    for package in (modules, datamodules):
        for kind in map(package.__getattr__, package.__all__):
            if "__init__" in vars(kind):
                found = re.search(r"\*\*\w+: Unpack\[(\w+)\]", inspect.getsource(kind.__init__))
                if found is not None:
                    yield kind, getattr(sys.modules[kind.__module__], found[1])


@pytest.mark.parametrize(("kind", "options"), classes_with_typed_options())
def test_typed_options_are_those_of_the_base_class(kind: type, options: type) -> None:
    base = next(each for each in kind.__mro__[1:] if "__init__" in vars(each))
    own = inspect.signature(kind.__init__).parameters
    taken = inspect.signature(base).parameters.values()
    expected = {each.name: each.annotation for each in taken if each.name not in own}
    assert get_type_hints(options, include_extras=True) == expected


@pytest.mark.parametrize(
    "kind", [A2C, DQN, SAC, Reinforce, ReplayDataModule, RolloutDataModule, TabularDataModule]
)
def test_every_option_has_a_type_a_sentence_and_a_default(kind: type) -> None:
    first, *options = inspect.signature(kind).parameters.values()
    assert first.name in ("environment", "env_id")
    for option in options:
        assert option.kind is not option.VAR_KEYWORD
        assert option.annotation is not option.empty, option.name
        assert option.default is not option.empty, option.name
        assert f"    {option.name}: " in kind.__doc__, option.name
    parser = ArgumentParser()
    parser.add_class_arguments(kind)
    defaults = {each.dest: each.default for each in parser._actions}
    for option in options:
        if option.name not in ("optimizer", "lr_scheduler"):
            assert defaults[option.name] == option.default
    assert defaults.keys() >= {option.name for option in options}


def test_a_range_in_an_annotation_is_checked() -> None:
    class Ranged(CheckedConstructor):
        def __init__(self, size: Annotated[int, Ge(1)] | None = None) -> None: ...

    Ranged(), Ranged(None), Ranged(1)
    with pytest.raises(ConfigurationError, match="size of Ranged is 0: it must be greater than or"):
        Ranged(0)


def test_ranges() -> None:
    require_range(0, 1, one=0, other=1.0, none=None)
    with pytest.raises(ConfigurationError, match=r"other is 1.1: choose it in \[0, 1\]"):
        require_range(0, 1, one=0, other=1.1)
    with pytest.raises(ConfigurationError, match="one is 0: make it at least 1"):
        require_range(1, one=0)
