"""What a module looks like: its size, its name, its words, and what must not stand in any file."""

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.house.code import PACKAGES, ROOT, dotted, functions, modules, packaged_modules, texts

LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
SHORT_METHOD = 4  # statements and definition together: what it does is said by its name
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
MACHINE_PATHS = re.compile(r"(?<![\w.}>-])/(work|root|tmp)/")
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|crates\.io|rubygems\.org|docker\.(io|com)|ghcr\.io|quay\.io"
    r"|golang\.org|conda\.(io|org)|anaconda\.org"
)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    documented = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - documented


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def undocumented(path: str, tree: ast.Module) -> Iterator[str]:
    for node in public(tree.body):
        if not ast.get_docstring(node):
            yield f"{path}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            bases = getattr(importlib.import_module(dotted(path)), node.name).__mro__[1:]
            for method in public(node.body):
                inherited = any(method.name in vars(base) for base in bases)
                if not ast.get_docstring(method) and not inherited and length(method) > SHORT_METHOD:
                    yield f"{path}:{method.lineno} {node.name}.{method.name}"


def test_no_module_is_longer_than_can_be_read_at_once() -> None:
    sizes = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}

    assert not {path: size for path, size in sizes.items() if size > LONGEST_MODULE}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": length(node)
        for path, tree in packaged_modules().items()
        for node in functions(tree)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_every_name_of_a_module_says_what_is_in_it() -> None:
    assert not [path for path in modules() if NAMES_THAT_SAY_NOTHING & set(Path(path).with_suffix("").parts)]


def test_every_module_says_why_it_exists() -> None:
    silent = [path for path, tree in packaged_modules().items() if tree.body and not ast.get_docstring(tree)]

    assert not silent


def test_public_functions_and_classes_say_what_they_do() -> None:
    assert not [line for path, tree in packaged_modules().items() for line in undocumented(path, tree)]


def test_no_annotation_is_put_off() -> None:
    """Litestar and msgspec read annotations; put off, they would be strings."""
    found = [
        path
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    assert not found


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    found = [(path, hit.group()) for path, text in texts() if (hit := MACHINE_PATHS.search(text))]

    assert not [(path, hit) for path, hit in found if not path.startswith("tests/")]


def test_no_file_says_where_packages_are_downloaded_from() -> None:
    """Where they come from is the business of whoever installs."""
    assert not [(path, hit.group()) for path, text in texts() if (hit := REGISTRIES.search(text))]


@pytest.mark.parametrize("name", PACKAGES)
def test_our_import_names_are_ours_alone(name: str) -> None:
    found = find_spec(name)

    assert found is not None
    assert Path(str(found.origin)).is_relative_to(ROOT)
    assert set(packages_distributions().get(name, ["penstock"])) == {"penstock"}
