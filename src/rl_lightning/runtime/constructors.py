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
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import nn
from typing_extensions import Unpack, is_typeddict

from rl_lightning.runtime.errors import ConfigurationError, one_line


class CheckedConstructor:
    """Base class whose subclasses check the arguments of their constructor.

    The check is made before `__init__`. The signature and the docstring of a subclass hold the
    options that it passes on to its base class too, for `help` and for editors.
    """

    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Add the options of the base class to the signature and to the docstring."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = _full_signature(cls)
        if (init := cls.__dict__.get("__init__")) is not None:
            _resolve_options(cls, init)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments.

        Raises:
            ConfigurationError: If an argument has another type than its annotation, or is NaN or
                infinite, or if an optimizer or a schedule refuses its arguments.
        """
        parameters = cls.__signature__.parameters
        if not any(each.kind == Parameter.VAR_KEYWORD for each in parameters.values()):
            for unknown in kwargs.keys() - parameters.keys():
                close = difflib.get_close_matches(unknown, parameters, n=1) or parameters
                raise ConfigurationError(
                    f"{cls.__name__} has no option {unknown}: choose one of {', '.join(close)}"
                )
        for name, value in cls.__signature__.bind_partial(*args, **kwargs).arguments.items():
            annotation = parameters[name].annotation
            variadic = parameters[name].kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
            if annotation is not Parameter.empty and not variadic:
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


def _full_signature(cls: type) -> Signature:
    """The parameters of a constructor and of those that it passes its `**options` on to."""
    found: dict[str, Parameter] = {}
    variadic: list[Parameter] = []
    for base in cls.__mro__:
        if "__init__" not in base.__dict__ or base is object:
            continue
        init = base.__dict__["__init__"]
        _, *own = inspect.signature(init).parameters.values()
        hints = _type_hints(init)
        passed_on = bool(variadic)  # to this constructor, by keyword
        variadic = [each for each in own if each.kind == Parameter.VAR_KEYWORD]
        for each in own:
            if each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                continue
            kind = Parameter.KEYWORD_ONLY if passed_on else each.kind
            annotation = hints.get(each.name, each.annotation)
            found.setdefault(each.name, each.replace(annotation=annotation, kind=kind))
        if not variadic:
            break
    return Signature(sorted((*found.values(), *variadic), key=lambda each: each.kind))


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:  # a name that is imported for type checkers only; such types are not checked
        return {}


def _resolve_options(cls: type, init: Any) -> None:
    """Replace `**options` in the docstring of a class by the options of its base class.

    The annotation of `**options` is removed. jsonargparse would take the options from it, without
    their defaults. Without an annotation it follows `super().__init__(**options)`.

    Raises:
        TypeError: If the TypedDict does not have exactly the options of the base class.
    """
    name, unpacked = next(
        ((name, hint) for name, hint in _type_hints(init).items() if get_origin(hint) is Unpack),
        (None, None),
    )
    if name is None:
        return
    base, own, typed = cls.__mro__[1], inspect.signature(init).parameters, get_args(unpacked)[0]
    taken = {
        key: parameter.annotation
        for key, parameter in inspect.signature(base).parameters.items()
        if key not in own
    }
    declared = get_type_hints(typed, include_extras=True)
    differing = [
        key for key in declared.keys() | taken.keys() if declared.get(key) != taken.get(key)
    ]
    if differing:
        raise TypeError(f"{typed.__name__} and {base.__name__} differ in {sorted(differing)}")
    del init.__annotations__[name]
    documented = _documented(base)
    inherited = "".join(documented.get(key, "") for key in taken)
    cls.__doc__ = re.sub(
        rf"(?m)^    {name}: .*\n(?:     .*\n)*",
        lambda _: inherited,
        inspect.cleandoc(cls.__doc__ or "") + "\n",
    )


def _documented(cls: type) -> dict[str, str]:
    """The entries of the section "Args" of a class's docstring, by name."""
    text = inspect.cleandoc(cls.__doc__ or "") + "\n"
    section = re.search(r"^Args:\n((?:    .*\n)*)", text, re.MULTILINE)
    entries = re.findall(r"^(    (\w+): .*\n(?:     .*\n)*)", section[1] if section else "", re.M)
    return {name: entry for entry, name in entries}


def _check(what: str, value: Any, annotation: Any) -> None:
    from pydantic import ValidationError

    comparable = _comparable(value, annotation)
    try:
        _adapter(annotation).validate_python(comparable)
    except ValidationError as error:
        shown = one_line(reprlib.repr(value))
        raise ConfigurationError(f"{what} is {shown}: {_advice(error.errors())}") from None
    if is_dataclass(annotation):
        for name, hint in get_type_hints(annotation).items():
            _check(f"{name} of {type(value).__name__}", getattr(value, name), hint)
    returned = {get_args(each)[-1] for each in (annotation, *get_args(annotation)) if _calls(each)}
    if callable(value) and torch.optim.Optimizer in returned:
        _make_optimizer(what, value)


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


def _calls(annotation: Any) -> bool:
    return get_origin(annotation) is Callable and bool(get_args(annotation))


def _make_optimizer(what: str, make: Callable[[Any], Any]) -> None:
    """Make an optimizer of some zeros, because only this checks its arguments, such as `lr`."""
    try:
        optimizer = make([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))])
    except ValueError as error:
        raise ConfigurationError(f"{what} cannot be made: {one_line(str(error))}") from error
    except Exception:  # it needs the module's own parameters
        return
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigurationError(
            f"{what} makes a {type(optimizer).__name__}: give a torch.optim.Optimizer, such as "
            "functools.partial(torch.optim.Adam, lr=1e-3)"
        )
