"""The source files of this package, their code lines and what they import."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "rl_lightning"
PACKAGE = "rl_lightning"
code_lines: Callable[[Path], int] = run_path(str(ROOT / "benchmarks/code_size.py"))["code_lines"]


def files(root: Path = SOURCES) -> list[Path]:
    return sorted(root.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, names: set[str]) -> Iterator[str]:
    """The modules of this package that a file imports, also in functions and by a string.

    Args:
        path: The file.
        names: Names of all modules.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from package import module` imports the module.
            found = [f"{node.module}.{each.name}" for each in node.names]
            yield from (each if each in names else node.module for each in found)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A string may name a module, or a class in one. Alone, "rl_lightning" is a word.
            parents = (node.value, node.value.rpartition(".")[0])
            yield from (each for each in parents if each in names and "." in each)
