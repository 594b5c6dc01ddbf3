"""Builds the source distribution and the wheels, looks into them, and runs the tests against the installed wheel.

    make wheel-test                            # every test that does not read the sources
    make wheel-test ARGS="tests/render -x"     # a part of them
    make wheel-test ARGS="--no-tests"          # build, look, install, start

Everything lies in build/wheel: the distributions in `dist`, the environment in `environment`, and in `elsewhere` what the
source distribution holds without the five packages. The tests run there, so `import geometry` can only find the wheel.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheel"
PACKAGES = ("geometry", "render", "storage", "train", "flows")
SHIPPED = {".py", ".pyi", ".typed", ".npz", ".json", ".css", ".html", ".js"}
"""What the wheel may hold beside licences."""
UNSHIPPED = (".ci/", ".gitignore", ".dockerignore")
"""What the checkout has and the source distribution does not need."""
READ_SOURCES = (
    "tests/flows/test_pages.py",  # links from pages into the sources
    "tests/geometry/test_kernel_cache.py",  # copies the sources
    "tests/hardening/test_security.py",  # reads every source
    "tests/test_imports.py",  # the same
    "tests/test_shapes.py",  # the same
)
"""Tests that need the checkout itself."""

GUARD = f'''"""The tests must meet the installed packages and nothing else."""

import importlib
import sysconfig


def pytest_sessionstart(session):
    for name in {PACKAGES!r}:
        place = importlib.import_module(name).__file__
        assert place.startswith(sysconfig.get_path("purelib")), f"{{name}} was imported from {{place}}"
'''


def main() -> None:
    """Build, look, install, start, test."""
    arguments = sys.argv[1:]
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tree, dist, direct = copy_of_the_checkout(), WORK / "dist", WORK / "direct"

    tools = new_environment("tools", "build", "twine", "cffconvert")
    run(tools, "-m", "build", "--outdir", dist, tree)  # the wheel from the source distribution
    run(tools, "-m", "build", "--wheel", "--outdir", direct, tree)
    run(tools, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    run(tools.with_name("cffconvert"), "--validate", "-i", tree / "CITATION.cff")
    (source,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    version = wheel.name.split("-")[1]
    if f"\nversion: {version}\n" not in (tree / "CITATION.cff").read_text():
        sys.exit(f"wheel-test: CITATION.cff names another version than {version}")
    look_into_the_wheel(wheel, next(direct.glob("*.whl")), tree)
    elsewhere = look_into_the_source(source, tree)

    constraints = ("-c", tree / "infra" / "constraints.txt")
    python = new_environment("environment", *constraints, f"facefoundry[all,dev] @ {wheel.as_uri()}")
    run(python, "-m", "pip", "--disable-pip-version-check", "check")
    run(python.with_name("facefoundry"), "--help", quiet=True)
    run(python.with_name("facefoundry"), "doctor")
    typed = WORK / "typed.py"
    typed.write_text(TYPED)
    run(python, "-m", "mypy", "--strict", "--cache-dir", WORK / "mypy", typed)
    if arguments != ["--no-tests"]:
        (elsewhere / "wheel_guard.py").write_text(GUARD)
        unread = [f"--ignore={path}" for path in READ_SOURCES]
        run(python, "-m", "pytest", "-p", "wheel_guard", "-p", "no:cacheprovider", *unread, *arguments, cwd=elsewhere)
    print(f"wheel-test: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, and {source.name} hold what they should")


TYPED = '''"""What a user's type checker sees of the installed packages."""

from geometry import MorphableModel, load_model
from render import rasterize
from storage import open_dataset


def mean_height(name: str) -> float:
    model: MorphableModel = load_model(name)
    return float(model.mean_shape[:, 1].mean())


print(mean_height("built-in"), rasterize, open_dataset("nowhere").manifest.version)
'''


def copy_of_the_checkout() -> Path:
    """What git knows or would take: nothing that an earlier build has left can come into a wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    tree = WORK / "tree"
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def new_environment(name: str, *requirements: object) -> Path:
    """An environment of its own with `requirements`; its interpreter."""
    folder = WORK / name
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return python


def run(*command: object, cwd: Path = WORK, quiet: bool = False) -> None:
    """One command, shown before it runs, in a folder without packages; where it fails, this ends with its code."""
    line = [str(word) for word in command]
    print("wheel-test:", shlex.join(line), flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(line, cwd=cwd, env=environment, stdout=subprocess.DEVNULL if quiet else None, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def look_into_the_wheel(wheel: Path, direct: Path, tree: Path) -> None:
    """Every file of the packages and no other, licences and notices, and the same from either way of building."""
    held, other = members(wheel), members(direct)
    expect(
        "a file of one wheel and not of the other, or with other bytes", held.items() ^ other.items(), ignore="RECORD"
    )
    packed = {name for name in held if name.split("/")[0] in PACKAGES}
    wanted = {
        path.relative_to(tree).as_posix() for name in PACKAGES for path in (tree / name).rglob("*") if path.is_file()
    }
    expect("missing in the wheel, or in it and not in the checkout", packed ^ wanted)
    expect("of a kind that no wheel should hold", {name for name in packed if not is_shipped(name)})
    information = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    expect("of no package", {name for name in held if name.split("/")[0] not in (*PACKAGES, information)})
    needed = {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")} | {"geometry/data/LICENSE"}
    needed |= {f"{name}/py.typed" for name in PACKAGES} | {"geometry/data/built_in_head.npz"}
    expect("missing in the wheel", needed - held.keys())
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(f"{information}/entry_points.txt").decode()
    for line in ("facefoundry = flows.command_line:main", "facefoundry = flows.prefect_plugin:plugin"):
        expect("no entry point", {line} - set(points.splitlines()))


def look_into_the_source(source: Path, tree: Path) -> Path:
    """The checkout's files and no other; what is not of a package is unpacked into the folder that comes back."""
    elsewhere = WORK / "elsewhere"
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2]: name for name in archive.getnames() if archive.getmember(name).isfile()}
        made = {name for name in files if name in ("PKG-INFO", "setup.cfg") or name.startswith("facefoundry.egg-info/")}
        known = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
        own = {name for name in known if name.startswith("facefoundry.egg-info/")}  # setuptools leaves it in the tree
        wanted = {name for name in known - own if not name.startswith((*UNSHIPPED, "build/"))}
        expect("missing in the source distribution, or in it and not in the checkout", files.keys() - made ^ wanted)
    shutil.unpack_archive(source, WORK / "unpacked", filter="data")
    (WORK / "unpacked" / source.name.removesuffix(".tar.gz")).rename(elsewhere)
    for name in PACKAGES:
        shutil.rmtree(elsewhere / name)
    return elsewhere


def members(wheel: Path) -> dict[str, str]:
    """The SHA-256 of every file by its name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def is_shipped(name: str) -> bool:
    """Whether a file of this kind may be in the wheel."""
    path = PurePosixPath(name)
    return (path.suffix in SHIPPED or path.name == "LICENSE") and "tests" not in path.parts


def expect(what: str, found: set, *, ignore: str = "") -> None:
    """Nothing was `found`, else end with the list."""
    names = sorted({str(item[0] if isinstance(item, tuple) else item) for item in found})
    wrong = [name for name in names if not (ignore and name.endswith(ignore))]
    if wrong:
        sys.exit(f"wheel-test: {what}: {', '.join(wrong[:20])}{' …' if len(wrong) > 20 else ''}")


if __name__ == "__main__":
    main()
