"""Signatures say shapes: of the public functions that take or give arrays, nearly all name every array's axes.

Compiled loops are not counted, which have no annotations at all: the functions that call them have. "Any shape" ("...") counts
as nothing said. ``python -m tests.test_shapes`` lists the functions that do not.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import jaxtyping

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("geometry", "render", "storage", "train", "flows")
ARRAYS = {"ndarray", "Tensor"}
SHAPED = {name for name in dir(jaxtyping) if name[0].isupper()}
UNSAID = {"Literal", "dict", "Mapping"}
"""Arrays by name are as many shapes; what they are, the schema says."""
ANY_SHAPE = "..."
LEAST = 0.95


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods without an underscore, those of classes without one."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (not inner.name.startswith("_") or inner.name == "__init__"):
                    yield f"{node.name}.{inner.name}", inner


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def arrays(annotation: ast.AST | None) -> Iterator[bool]:
    """Every array of an annotation: whether it has a shape."""
    of = name_of(annotation.value) if isinstance(annotation, ast.Subscript) else ""
    if annotation is None or of in UNSAID:
        return
    if of == "Annotated":
        annotation = annotation.slice.elts[0]
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Subscript) and name_of(annotation.value) in SHAPED:
        yield ast.literal_eval(annotation.slice.elts[1]) != ANY_SHAPE
    elif name_of(annotation) in ARRAYS:
        yield False
    else:
        for child in ast.iter_child_nodes(annotation):
            yield from arrays(child)


def measured() -> dict[str, bool]:
    """Every public function with arrays: whether all of them have shapes."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name, function in public_functions(ast.parse(path.read_text())):
                arguments = function.args
                annotations = [
                    one.annotation for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
                ]
                shaped = [one for each in (*annotations, function.returns) for one in arrays(each)]
                if shaped:
                    found[f"{path.relative_to(ROOT)}:{function.lineno} {name}"] = all(shaped)
    return found


def test_public_functions_name_the_shapes_of_their_arrays():
    found = measured()
    assert len(found) > 500
    without = [name for name, shaped in found.items() if not shaped]
    assert 1 - len(without) / len(found) >= LEAST, "\n".join(without)


def test_an_array_without_a_shape_is_noticed_wherever_it_stands():
    said = ast.parse(
        'a: Float[np.ndarray, "n 3"]; b: np.ndarray; c: Tensor | None; d: "list[np.ndarray]"; e: dict[str, Tensor]; '
        'f: Shaped[np.ndarray, "..."]'
    )
    assert [list(arrays(each.annotation)) for each in said.body] == [[True], [False], [False], [False], [], [False]]


def test_nothing_but_compiled_loops_takes_what_it_does_not_annotate():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name, function in public_functions(ast.parse(path.read_text())):
                given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                untyped = [one.arg for one in given if one.annotation is None and one.arg not in ("self", "cls")]
                compiled = any(name_of(decorator) == "no_type_check" for decorator in function.decorator_list)
                assert not untyped or (compiled and path.stem.endswith("_kernel")), f"{path}: {name}({untyped})"


if __name__ == "__main__":
    every = measured()
    said = sum(every.values())
    print(*(name for name, shaped in every.items() if not shaped), sep="\n")
    print(f"{said} of {len(every)} public functions with arrays say all shapes: {said / len(every):.1%}")
