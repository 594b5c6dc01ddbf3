"""Writes `__init__.pyi` of each package from its table of names: type checkers do not run `__getattr__`.

python infra/stubs.py
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("geometry", "render", "storage", "train", "flows")


def stub(package: str) -> str:
    """The text of one: every name from the module that it lives in, and what else the package itself defines."""
    module = importlib.import_module(package)
    homes = sorted((home, name) for name, home in module._HOME.items())
    lines = [f'"""The names of `{package}`, for type checkers; written by `python infra/stubs.py`."""', ""]
    lines += [f"from {home} import {name} as {name}" for home, name in homes]
    for name in sorted(set(module.__all__) - set(module._HOME)):
        kind = {str: "str", tuple: "tuple[str, ...]"}[type(getattr(module, name))]
        lines += ["", f"{name}: {kind}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for package in PACKAGES:
        (ROOT / package / "__init__.pyi").write_text(stub(package))
