"""Checks the arguments of constructors, and shows in help() those that a base class takes.

A class passes the options of its base class on as `**options: Unpack[BaseOptions]` (PEP 692). The
base class declares each of them once, with a type, a default and a sentence.
"""

import difflib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from inspect import Parameter, Signature
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim import Optimizer
from typing_extensions import Self, Unpack, is_typeddict

from rl_lightning.runtime.errors import ConfigurationError, one_line

# An entry of the section "Args" of a docstring, and its name.
_ENTRY = re.compile(r"^(    (\w+): .*\n(?:     .*\n)*)", re.MULTILINE)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class CheckedConstructor:
    """Base class whose subclasses check the arguments of their constructor.

    The check is made before `__init__`. The signature and the docstring of a subclass hold the
    options that it passes on to its base class too, for `help` and for editors.
    """

    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Add the options of the base class to the signature and to the docstring."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            _inherit_options(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments.

        Raises:
            ConfigurationError: If an argument has another type than its annotation, or is NaN or
                infinite, or if an optimizer or a schedule refuses its arguments.
        """
        signature = inspect.signature(cls)
        parameters = signature.parameters
        variadic = {each.name for each in parameters.values() if each.kind in _VARIADIC}
        for unknown in () if variadic else kwargs.keys() - parameters.keys():
            close = difflib.get_close_matches(unknown, parameters, n=1) or parameters
            raise ConfigurationError(
                f"{cls.__name__} has no option {unknown}: choose one of {', '.join(close)}"
            )
        for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
            annotation = parameters[name].annotation
            if annotation is not Parameter.empty and name not in variadic:
                _check(f"{name} of {cls.__name__}", value, annotation)
        return super().__new__(cls)


def require_range(low: float, high: float = math.inf, **numbers: float | None) -> None:
    """Check that numbers are in [low, high]. None is not checked.

    Raises:
        ConfigurationError: For the first number that is not.
    """
    for name, number in numbers.items():
        if number is not None and not low <= number <= high:
            advice = (
                f"make it at least {low}" if high == math.inf else f"choose it in [{low}, {high}]"
            )
            raise ConfigurationError(f"{name} is {number}: {advice}")


def _inherit_options(cls: Any) -> None:
    """Replace `**options` in signature and docstring by the options of the base class.

    An annotation `Unpack[…]` is removed. jsonargparse would take the options from it, without
    their defaults. Without an annotation it follows `super().__init__(**options)`.
    """
    init = cls.__dict__["__init__"]
    hints = _type_hints(init)
    _, *given = inspect.signature(init).parameters.values()
    own = {
        each.name: each.replace(annotation=hints.get(each.name, each.annotation)) for each in given
    }
    inherited: dict[str, Parameter] = {}
    options = next((each for each in own.values() if each.kind == Parameter.VAR_KEYWORD), None)
    if options is not None:
        base = next(each for each in cls.__mro__[1:] if "__init__" in each.__dict__)
        del own[options.name]
        for name, each in inspect.signature(base).parameters.items():
            if name not in own and each.kind != Parameter.VAR_POSITIONAL:
                kind = max(each.kind, Parameter.KEYWORD_ONLY)
                inherited[name] = each.replace(kind=kind)
        if get_origin(options.annotation) is Unpack:
            del init.__annotations__[options.name]
            cls.__doc__ = _with_options(cls, options.name, base, inherited)
    parameters = sorted((*own.values(), *inherited.values()), key=lambda each: each.kind)
    cls.__signature__ = Signature(parameters)


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:  # a name that is imported for type checkers only; such types are not checked
        return {}


def _with_options(cls: type, options: str, base: type, inherited: Mapping[str, Parameter]) -> str:
    """The docstring of a class with the entries of inherited options in place of `options`."""
    text, theirs = (inspect.cleandoc(each.__doc__ or "") + "\n" for each in (cls, base))
    documented = {name: entry for entry, name in _ENTRY.findall(theirs.partition("\nArgs:\n")[2])}
    entries = "".join(documented.get(name, "") for name in inherited)
    return _ENTRY.sub(lambda found: entries if found[2] == options else found[0], text)


def _check(what: str, value: Any, annotation: Any) -> None:
    from pydantic import ValidationError

    if is_dataclass(annotation) and isinstance(value, Mapping):  # as checkpoints have it
        return
    comparable = _comparable(value, annotation)
    try:
        _adapter(annotation).validate_python(comparable)
    except ValidationError as error:
        shown = one_line(reprlib.repr(value))
        raise ConfigurationError(f"{what} is {shown}: {_advice(error.errors())}") from None
    if is_dataclass(annotation):
        for name, hint in get_type_hints(annotation).items():
            _check(f"{name} of {type(value).__name__}", getattr(value, name), hint)
    if callable(value):
        _check_factory(what, value, annotation)


def _advice(errors: Any) -> str:
    """What to do about pydantic's errors, of which a union has one for each of its types."""
    choices = [each["ctx"]["expected"] for each in errors if each["type"] == "literal_error"]
    if choices:
        return "choose one of " + ", ".join(re.findall(r"'([^']*)'", choices[0]))
    said = [
        "a list" if each["type"] == "sequence_str" else each["msg"].removeprefix("Input should be ")
        for each in errors
    ]
    return "it must be " + " or ".join(dict.fromkeys(said))


def _comparable(value: Any, annotation: Any) -> Any:
    """A value in the types that pydantic compares strictly.

    YAML files and checkpoints have lists in place of tuples, and NumPy has its own numbers.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        items = [_comparable(each, None) for each in value]
        kinds = {get_origin(each) or each for each in (annotation, *get_args(annotation))}
        return tuple(items) if tuple in kinds else items
    return value


@cache
def _adapter(annotation: Any) -> Any:
    # Imported at the first use, because the import takes longer than that of most of this package.
    from pydantic import ConfigDict, InstanceOf, TypeAdapter

    if is_dataclass(annotation):
        return TypeAdapter(InstanceOf[annotation])
    if is_typeddict(annotation):  # pydantic refuses those of `typing` before Python 3.12
        annotation = Mapping
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return TypeAdapter(annotation, config=config)


def _check_factory(what: str, make: Callable[[Any], Any], annotation: Any) -> None:
    """Make an optimizer or a schedule, because only this checks arguments such as `lr`."""
    makes_optimizer = annotation == OptimizerCallable
    if not makes_optimizer and annotation not in (LRSchedulerCallable, LRSchedulerCallable | None):
        return
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    try:
        made = make(parameters if makes_optimizer else torch.optim.SGD(parameters, lr=1.0))
    except ValueError as error:
        raise ConfigurationError(f"{what} cannot be made: {one_line(error)}") from error
    except Exception:  # it needs the module's own parameters or optimizer
        return
    if makes_optimizer and not isinstance(made, Optimizer):
        raise ConfigurationError(
            f"{what} makes a {type(made).__name__}: give a torch.optim.Optimizer, such as "
            "functools.partial(torch.optim.Adam, lr=1e-3)"
        )
