"""Packages whose classes are imported when they are first used."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def on_first_use(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """Make `__getattr__` (PEP 562) and `__all__` of a package from its `if TYPE_CHECKING` imports.

    Type checkers and editors read these imports. Python skips them, and so a program that uses one
    class imports the files of that class only.

    Args:
        package: `__name__` of the package.
        file: `__file__` of the package.
    """
    homes = {
        alias.name: node.module or ""
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find, sorted(homes)
