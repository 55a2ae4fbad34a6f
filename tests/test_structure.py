"""The structure of the source: foreign private names, imports and sizes."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from source_files import PACKAGE, SOURCES, code_lines, files, imports, module_name

ADAPTER = SOURCES / "lightning_adapter"
# These names have an underscore and are documented: methods of a NamedTuple, and os._exit.
DOCUMENTED = {"_make", "_replace", "_asdict", "_fields", "_field_defaults", "_exit"}
_PRIVATE = re.compile(r"_[A-Za-z]\w*")


def is_private(name: str) -> bool:
    return _PRIVATE.fullmatch(name) is not None and name not in DOCUMENTED


@cache
def own_names_of(kind: type) -> set[str]:
    """Private attributes of a class: those in its body, and those that its methods set."""
    names = {name for name in vars(kind) if is_private(name)}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):  # a class without Python source
        return names
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
            names.add(node.attr)
    return {name for name in names if is_private(name)}


def is_own(node: ast.Attribute) -> bool:
    """Whether this is an attribute of `self`, `cls` or `super()`."""
    of = node.value
    if isinstance(of, ast.Call):
        return isinstance(of.func, ast.Name) and of.func.id == "super"
    return isinstance(of, ast.Name) and of.id in ("self", "cls")


def foreign_names(kind: type) -> set[str]:
    """Private attributes that a class has from base classes of other packages."""
    foreign = [base for base in kind.__mro__ if not base.__module__.startswith(PACKAGE)]
    return set().union(*(own_names_of(base) for base in foreign if base is not object))


def found_in(path: Path) -> Iterator[str]:
    """The foreign private names that a file touches.

    A private name is this package's own if a class of this package defines it, it is used on
    `self`, `cls` or `super()`, and no base class of another package has it. Everything else with
    an underscore is foreign: names that are imported, attributes of any other object, and names
    in strings, as `getattr` takes them, that no class of the file has.
    """
    tree = ast.parse(path.read_text())
    module = importlib.import_module(module_name(path))
    kinds = {
        vars(module)[node.name]: node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and isinstance(vars(module).get(node.name), type)
    }
    own = set().union(*map(own_names_of, kinds))
    literal = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
               for part in node.values}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(each.name for each in node.names)]
            yield from (f"import of {name}" for name in names if is_private(name))
        elif isinstance(node, ast.Import):
            names = [part for each in node.names for part in each.name.split(".")]
            yield from (f"import of {name}" for name in names if is_private(name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node):
            yield ast.unparse(node)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and is_private(node.value)
            and node.value not in own
            and id(node) not in literal
        ):
            yield f'"{node.value}"'
    for kind, node in kinds.items():
        inside = [each for each in ast.walk(node) if isinstance(each, ast.Attribute)]
        touched = {each.attr for each in inside if is_own(each)}
        touched |= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        yield from (f"{kind.__name__}.{name}" for name in sorted(touched & foreign_names(kind)))


@pytest.mark.parametrize(
    "path",
    [path for path in files() if ADAPTER not in path.parents and path.name != "__main__.py"],
    ids=module_name,
)
def test_only_the_adapter_touches_private_names_of_other_packages(path):
    assert [*found_in(path)] == []


NAMES = {module_name(path) for path in files()}


def test_there_is_no_import_circle_also_not_by_a_string():
    """A package imports its submodules by name, and they never import the package itself."""
    graph = {module_name(path): {*imports(path, NAMES)} - {module_name(path)} for path in files()}
    assert len(graph) > 100
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(reversed(circle.args[1])))


def test_the_base_class_of_modules_is_small():
    assert code_lines(SOURCES / "modules" / "learner.py") <= 45


def imported_with(*modules):
    """The files of this package that a program imports with some modules."""
    print_files = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        f"found = [m for name, m in sys.modules.items() if name.split('.')[0] == '{PACKAGE}']\n"
        "print('\\n'.join(each.__file__ for each in found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", print_files, *modules], capture_output=True, text=True, check=True
    )
    return [Path(line) for line in done.stdout.splitlines()]


def test_a_reader_of_dqn_meets_only_dqn():
    found = imported_with("rl_lightning.modules.dqn", "rl_lightning.datamodules.replay")
    sizes = {module_name(path): code_lines(path) for path in found}
    for family in ("alphago", "recurrent_attention", "tables", "games", "search", "images"):
        assert not [name for name in sizes if family in name.split(".")]
    assert len([name for name, size in sizes.items() if size]) <= 30
    assert sum(sizes.values()) <= 2_250


def test_a_name_of_a_lazy_package_is_imported_when_it_is_used():
    found = {module_name(path) for path in imported_with("rl_lightning.datamodules")}
    assert found == {
        PACKAGE,
        *(f"{PACKAGE}.{n}" for n in ("datamodules", "runtime", "runtime.lazy")),
    }


@pytest.mark.parametrize("package", ["modules", "datamodules", "callbacks"])
def test_a_lazy_package_has_what_it_lists(package):
    module = importlib.import_module(f"{PACKAGE}.{package}")
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_the_package_exports_its_modules_datamodules_and_make_trainer():
    found = set(importlib.import_module(PACKAGE).__all__)
    rooms = (importlib.import_module(f"{PACKAGE}.{room}") for room in ("modules", "datamodules"))
    assert found == {"make_trainer"}.union(*(room.__all__ for room in rooms))
