"""Our own files, as the rules of the house look at them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "runner", "schemas", "migrations")
NOT_OURS = {"__pycache__", "build", "dist", "node_modules"}
OURS_THOUGH_HIDDEN = {".ci", ".dockerignore", ".gitignore"}
NOT_PYTHON = {"tests/flows/unreadable.py"}  # its whole point


def texts() -> Iterator[tuple[str, str]]:
    """Read every text file of the checkout, as (path below the root, text)."""
    for path in _files(ROOT):
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every Python file of the checkout, by its path below the root."""
    return {name: ast.parse(text) for name, text in texts() if name.endswith(".py") and name not in NOT_PYTHON}


def packaged_modules() -> dict[str, ast.Module]:
    """Parse the Python files that are installed."""
    return {name: tree for name, tree in modules().items() if name.partition("/")[0] in PACKAGES}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find every function of a module, also methods and inner ones."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def docstrings(tree: ast.Module) -> set[ast.Constant]:
    """Find the nodes of a module that are docstrings."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                found.add(first.value)
    return found


def dotted(path: str) -> str:
    """Name the module of a file below the root."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name not in OURS_THOUGH_HIDDEN:
            continue
        if path.name in NOT_OURS or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path
