"""Modules stand in an order: none imports another that imports it, not even within a function or for types alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("geometry", "render", "storage", "train", "flows")
KNOWN = [{"storage.dataset", "storage.sample_index", "storage.views"}]
"""`ds.select(…)` gives a view, which is a data set: a method that a subclass must answer."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """The modules that are imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that all lead to one another (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            circle = set(path[path.index(module) :])
            del path[path.index(module) :]
            found.extend([circle] if len(circle) > 1 else [])

    for module in graph:
        if module not in number:
            visit(module)
    return found


def test_no_module_imports_one_that_imports_it():
    files = {module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    graph = {name: {*imports(ast.parse(path.read_text()), set(files))} - {name} for name, path in files.items()}
    assert sorted(map(sorted, circles(graph))) == sorted(map(sorted, KNOWN))


def test_a_circle_is_noticed_and_a_lozenge_is_none():
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"d2"}, "d2": {"d"}}) == [
        {"d", "d2"},
        {"a", "b", "c"},
    ]
