"""Seeded defects: does the test suite notice? Each is one replacement in one file of a copy of the tree.

``python -m tests.hardening.seeded_defects [--only NAME …] [--write docs/mutations.md]``

The tests that should notice a defect run first, and where they pass the whole folder of tests of that package. A defect that
all of them pass has survived, and the exit code is 1. The working tree is never touched: everything happens in a copy under
the folder for temporary files, and one defect is taken out before the next is put in. At the end the tests that noticed run
without any defect, since a test that fails anyway notices nothing.
"""

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)

_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # plugins that the forks find loaded


@dataclass(frozen=True, slots=True)
class Defect:
    """One mistake: in `file`, `right` (which stands there exactly once) becomes `wrong`; `tests` are to notice."""

    name: str
    what: str
    file: str
    right: str
    wrong: str
    tests: str


DEFECTS = (
    # ---------------------------------------------------------------------------------------------------- conventions
    Defect(
        "landmarks-one-px", "landmarks keep MATLAB's count from one", "storage/annotations.py",
        '(2, N_LANDMARKS)).T - 1.0', '(2, N_LANDMARKS)).T', "tests/storage/test_annotations.py",
    ),
    Defect(
        "camera-one-px", "the camera's x keeps MATLAB's count from one", "storage/annotations.py",
        "np.array([x - 1.0 + shift_x,", "np.array([x + shift_x,", "tests/storage/test_annotations.py",
    ),
    Defect(
        "y-flip", "y is flipped about h − 1 and not h: one pixel", "storage/annotations.py",
        "image_height - y + shift_y, z]", "image_height - 1 - y + shift_y, z]", "tests/storage/test_annotations.py",
    ),
    Defect(
        "micrometres", "the scale per micrometre is read as per millimetre", "storage/annotations.py",
        "scale=UM_PER_MM * scale,", "scale=scale,", "tests/storage/test_annotations.py",
    ),
    Defect(
        "flip-names", "mirrored landmarks keep their old names", "storage/annotations.py",
        "points[MIRROR] if view.is_flip else points", "points", "tests/storage/test_annotations.py",
    ),
    Defect(
        "flip-pair", "two points of the mirror table are exchanged", "geometry/landmarks.py",
        "1 17, 2 16,", "1 16, 2 17,", "tests/geometry/test_landmarks.py",
    ),
    Defect(
        "mirror-half-px", "the mirror is x' = w − x", "geometry/frames.py",
        "[[-1.0, 0.0, width - 1.0]", "[[-1.0, 0.0, width]", "tests/geometry/test_frames.py",
    ),
    Defect(
        "z-scale", "depth is scaled by s·cosθ, the matrix's first entry", "geometry/frames.py",
        "self.matrix[:2, 2], self.scale)", "self.matrix[:2, 2], self.matrix[0, 0])", "tests/geometry/test_frames.py",
    ),
    Defect(
        "depth-sign", "depth runs away from the viewer", "geometry/camera.py",
        "_Y_DOWN = np.diag([1.0, -1.0, 1.0])", "_Y_DOWN = np.diag([1.0, -1.0, -1.0])", "tests/geometry/test_camera.py",
    ),
    Defect(
        "uv-flip", "v is flipped about S and not S − 1", "geometry/frames.py",
        "(1.0 - uv[..., 1]) * (size - 1)], axis=-1)", "size - uv[..., 1] * (size - 1)], axis=-1)",
        "tests/geometry/test_frames.py",
    ),
    Defect(
        "uv-half-texel", "texels lie half a texel aside", "geometry/frames.py",
        "uv[..., 0] * (size - 1), (1.0", "uv[..., 0] * size - 0.5, (1.0", "tests/geometry/test_frames.py",
    ),
    Defect(
        "rotation-order", "Euler angles are turned in another order", "geometry/rotation.py",
        "_elementary(pitch, 1, 2) @ _elementary(yaw, 2, 0)", "_elementary(yaw, 2, 0) @ _elementary(pitch, 1, 2)",
        "tests/geometry/test_rotation.py",
    ),
    Defect(
        "edge-rounding", "places are rounded to texels and not cut to the cell they lie in", "render/atlas_raster.py",
        "np.clip(np.floor(texel), 0, raster.size - 2)", "np.clip(np.rint(texel), 0, raster.size - 2)",
        "tests/render/test_correspondence.py",
    ),
    Defect(
        "winding", "triangles that look away are drawn, and those that look here are not", "render/zbuffer_kernel.py",
        "if area == 0 or (cull and area > 0):", "if area == 0 or (cull and area < 0):", "tests/render/test_zbuffer.py",
    ),
    Defect(
        "mirrored-tutte", "the square's border runs the other way round", "geometry/atlas_border.py",
        "_SQUARE = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])",
        "_SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])", "tests/geometry/test_unwrap.py",
    ),
    Defect(
        "z-offset", "the depth offset is told and not taken off", "render/position_map.py",
        "moved[2, 3] -= offset", "moved[2, 3] -= 0 * offset", "tests/render/test_position_map.py",
    ),
    Defect(
        "weight-ratios", "face and features weigh 4 : 3", "render/masks.py",
        "= 16.0, 4.0, 3.0", "= 16.0, 3.0, 4.0", "tests/render/test_weight_mask.py",
    ),
    Defect(
        "weight-neck", "the neck counts as face", "render/masks.py",
        'OUTSIDE_FACE = ("neck", "other")', 'OUTSIDE_FACE = ("other",)', "tests/render/test_weight_mask.py",
    ),
    Defect(
        "crop-corner", "the box goes to S pixels and not to 0 … S − 1", "render/crop.py",
        "scale = (config.size_px - 1) / side", "scale = config.size_px / side", "tests/render/test_crop.py",
    ),
    Defect(
        "seed-copy", "all copies of a picture draw the same numbers", "render/crop.py",
        r'f"{seed}\n{copy_index}\n{source_id}"', r'f"{seed}\n{source_id}"', "tests/render/test_crop.py",
    ),
    Defect(
        "jitter-after", "the picture is cut before the jitter, the labels after", "flows/posmaps.py",
        "cropped = warp_image(image, crop, size_px", "cropped = warp_image(image, cut(in_image, config.crop), size_px",
        "tests/hardening/test_pictures_and_labels.py::test_the_stored_crop_makes_the_stored_picture_of_every_copy",
    ),
    Defect(
        "copy-names", "an augmented copy that is mirrored keeps its landmarks' names", "flows/posmaps.py",
        "in_crop, vertices = in_crop[MIRROR], vertices[self.model.mirror]",
        "in_crop, vertices = in_crop, vertices[self.model.mirror]",
        "tests/hardening/test_pictures_and_labels.py::test_a_mirrored_copy_has_its_landmarks_under_their_new_names_and_its_map_agrees",
    ),
    Defect(
        "half-pixel", "pictures are read half a pixel aside", "render/sampling.py",
        "x, y = places_px[..., 0].astype(np.float64), places_px", "x, y = places_px[..., 0].astype(np.float64) - 0.5, places_px",
        "tests/render/test_visibility.py::test_bilinear_reading_is_exact_on_a_plane_and_holds_the_border",
    ),
    Defect(
        "channels", "red and blue change places in JPEGs that are written", "storage/jpeg.py",
        'cv2.imencode(".jpg", picture[:, :, ::-1]', 'cv2.imencode(".jpg", picture[:, :, :]',
        "tests/storage/test_byte_codes.py::test_a_jpeg_of_a_smooth_picture_is_off_by_few_grey_levels_and_by_fewer_at_higher_quality",
    ),
    Defect(
        "jpeg-quality", "pictures are stored at another quality than the schema says", "storage/byte_codes.py",
        "encode_jpeg(picture, self.quality)", "encode_jpeg(picture)",
        "tests/hardening/test_pictures_and_labels.py::test_a_picture_is_stored_at_the_quality_that_its_schema_names",
    ),
    Defect(
        "fixed-point", "fixed-point codes are cut off and not rounded", "storage/codes.py",
        "np.rint(scaled, out=scaled)", "np.trunc(scaled, out=scaled)",
        "tests/storage/test_schema.py::test_fixed_point_is_off_by_at_most_half_a_step",
    ),
    Defect(
        "fill-code", "the fill code can be a value", "storage/codes.py",
        "scaled.max() < FILL_CODE)", "scaled.max() <= FILL_CODE)",
        "tests/storage/test_schema.py::test_the_ends_of_the_fixed_point_range_can_be_stored_and_the_fill_code_cannot",
    ),
    # ----------------------------------------------------------------------------------------- storing and publishing
    Defect(
        "manifest-first", "the manifest is written before the objects are looked at", "storage/publish.py",
        "    reach(Phase.VERIFY, draft.version)\n",
        "    reach(Phase.VERIFY, draft.version)\n    store.put(MANIFEST_KEY, draft.to_bytes())\n",
        "tests/storage/test_publish.py::test_nothing_is_published_while_a_shard_is_missing_or_wrong",
    ),
    Defect(
        "unverified", "objects are published without being read", "storage/publish.py",
        "        elif not is_as_described(store, info):\n", "        elif False:\n",
        "tests/storage/test_publish.py::test_nothing_is_published_while_a_shard_is_missing_or_wrong",
    ),
    Defect(
        "constants", "tables and metadata are published without being compared with the plan", "storage/publish.py",
        "if constants.get(key, info.sha256) != info.sha256:", "if False:",
        "tests/storage/test_publish.py::test_what_no_shard_answers_for_is_not_published_damaged_either",
    ),
    Defect(
        "chunk-checksum", "a chunk's checksum is not looked at", "storage/zarr_format.py",
        'google_crc32c.value(packed) != int.from_bytes(data[-_CRC:], "little") or not len(packed)', "not len(packed)",
        "tests/storage/test_shards.py::test_no_flipped_bit_goes_unnoticed",
    ),
    Defect(
        "manifest-digest", "a manifest's own digest is not looked at", "storage/manifest.py",
        "if stated != found_digest:", "if stated is None:",
        "tests/storage/test_manifest.py::test_no_flipped_bit_of_a_manifest_changes_what_is_read",
    ),
    Defect(
        "label", "a shard's label is not looked at", "storage/shards.py",
        "bytes(source.read(0, LABEL_BYTES)) == expected_label for _",
        "len(source.read(0, LABEL_BYTES)) == LABEL_BYTES for _",
        "tests/storage/test_shards.py::test_objects_that_changed_places_are_noticed",
    ),
    Defect(
        "index-range", "an index that leads outside its object is believed", "storage/shards.py",
        "if offset + length > self._end:", "if offset + length > 1 << 62:",
        "tests/storage/test_shards.py::test_an_index_that_leads_outside_is_noticed",
    ),
    Defect(
        "fill-value", "a hole is read as whatever the memory held", "storage/shards.py",
        '            raise MissingObject(f"{self._key}[{place}]")', "            return",
        "tests/storage/test_shards.py::test_a_hole_is_an_error_and_never_a_fill_value",
    ),
    Defect(
        "index-map", "a rejected sample shifts the numbers of those after it", "storage/dataset.py",
        'dense, side="right")', 'dense, side="left")',
        "tests/storage/test_dataset.py::test_samples_are_dense_over_the_good_slots",
    ),
    Defect(
        "foreign-receipt", "a receipt of another plan is believed", "storage/publish.py",
        "    if receipt.fingerprint != fingerprint:", "    if receipt.fingerprint is None:",
        "tests/storage/test_publish.py::test_receipts_of_another_plan_or_shard_are_not_believed",
    ),
    Defect(
        "no-lock", "builders do not lock", "storage/folder_lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "tests/storage/test_publish.py::test_a_second_builder_leaves_at_once_and_names_the_first",
    ),
    Defect(
        "no-private-name", "objects are written under their own name", "storage/local_store.py",
        'private = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_LEFTOVER}")',
        "private = path.with_name(path.name); path.unlink(missing_ok=True)",
        "tests/storage/test_store.py::test_a_killed_writer_leaves_the_old_object_and_litter_that_nobody_sees",
    ),
    Defect(
        "no-sync", "an object gets its name before its bytes are on the disk", "storage/local_store.py",
        "                file.flush()\n                os.fsync(file.fileno())\n            give_name(private, path)\n",
        "                file.flush()\n                give_name(private, path)\n                os.fsync(file.fileno())\n",
        "tests/hardening/test_durability.py",
    ),
    Defect(
        "no-folder-sync", "a name is not made durable", "storage/local_store.py",
        "            private.unlink(missing_ok=True)\n        _sync_folder(path.parent)\n",
        "            private.unlink(missing_ok=True)\n",
        "tests/hardening/test_durability.py",
    ),
    Defect(
        "prune-readers", "pruning does not ask whether somebody reads", "storage/pins.py",
        "return _locked(folder, fcntl.LOCK_EX)", "return _locked(folder, fcntl.LOCK_SH)",
        "tests/storage/test_versions.py::test_an_open_version_is_not_pruned_and_reads_on",
    ),
    Defect(
        "repair-other-bytes", "a repair writes whatever was made", "storage/verify.py",
        "if digest.hexdigest() != self._promised.get(key):", "if key not in self._promised:",
        "tests/storage/test_faults.py::test_a_repair_that_would_write_other_bytes_is_refused_and_writes_nothing",
    ),
    Defect(
        "source-digest", "a source file that changed after the plan is used", "flows/build.py",
        "if hashlib.sha256(content).hexdigest() != sha256:", "if not content:",
        "tests/flows/test_build.py::test_a_file_that_changes_between_plan_and_shard_is_noticed",
    ),
    Defect(
        "quarantine-cap", "any number of bad samples is borne", "flows/refusals.py",
        "if len(rejected) <= limit:", "if len(rejected) <= of:",
        "tests/flows/test_build.py::test_a_share_of_bad_samples_is_counted_as_people_count",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caught:
    """The first test that noticed a defect; none: it survived."""

    by: str | None
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all defects, or those named, and print who noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="some defects by name")
    parser.add_argument("--write", type=Path, help="put the table into this page, below its line of dashes")
    given = parser.parse_args(arguments)
    chosen = [defect for defect in DEFECTS if given.only is None or defect.name in given.only]
    rows, survivors, noticing = [], [], set[str]()
    with tempfile.TemporaryDirectory(prefix="defects-") as name:
        tree = Path(name) / "tree"
        copy_tree(tree)
        check_places(tree, chosen)
        load_libraries()
        for defect in chosen:
            caught = tried(tree, defect)
            survivors += [] if caught.by else [defect.name]
            noticing |= {caught.by} if caught.by else set()
            by = f"`{caught.by.partition('[')[0]}`" if caught.by else "**nobody**"
            rows.append(f"| {defect.name} | {defect.what} | `{defect.file}` | {by} |")
            print(f"{defect.name:20} {caught.seconds:6.1f} s  {caught.by or 'SURVIVED'}", flush=True)
        code, output = run_tests(tree, sorted(noticing))
        if code != 0:
            raise SystemExit(f"a test that noticed a defect fails without one:\n{output[-3000:]}")
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} defects were noticed, by tests that pass without them")
    if given.write is not None:
        above = given.write.read_text(encoding="utf-8").partition("\n| defect |")[0]
        head = "\n| defect | what is wrong | where | noticed by |\n|---|---|---|---|\n"
        given.write.write_text(above + head + "\n".join(rows) + "\n", encoding="utf-8")
    return int(bool(survivors))


def copy_tree(to: Path) -> None:
    """The files of the project, with the compiled kernels, which know their sources by time and size."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    kernels = [str(path.relative_to(ROOT)) for path in ROOT.glob("*/__pycache__/*.nb?")]
    for name in {*listed, *kernels} - {""}:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def check_places(tree: Path, chosen: Sequence[Defect]) -> None:
    """Every place is there once. Raises SystemExit otherwise."""
    for defect in chosen:
        found = (tree / defect.file).read_text(encoding="utf-8").count(defect.right)
        if found != 1:
            raise SystemExit(
                f"{defect.name}: its place stands {found} times in {defect.file}, and must stand there once"
            )


def tried(tree: Path, defect: Defect) -> Caught:
    """Put a defect in, run the tests, take it out."""
    begin, path = time.monotonic(), tree / defect.file
    whole_folder = f"tests/{defect.file.partition('/')[0]}"
    shutil.copy2(path, tree / "kept")
    try:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(defect.right, defect.wrong), encoding="utf-8")
        for tests in (defect.tests.split(), [whole_folder]):
            code, output = run_tests(tree, tests)
            failed = _FAILED.search(output)
            if code == 1 and failed:
                return Caught(failed[1], time.monotonic() - begin)
            if code not in (0, 1):
                raise SystemExit(f"{defect.name}: pytest ended with {code}, so the defect is none:\n{output[-2000:]}")
        return Caught(None, time.monotonic() - begin)
    finally:
        shutil.copy2(tree / "kept", path)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest in the copy, until the first failure.

    In a fork that has the libraries loaded and none of the project; tests that build data sets start processes themselves,
    which is nothing for a fork, and get a process of their own.
    """
    options = ["-x", "-q", "-rfE", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if any(test.startswith(("tests/flows", "tests/hardening")) for test in tests):
        command = [sys.executable, "-m", "pytest", *options]
        done = subprocess.run(
            command, cwd=tree, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr
    told = tree / "told"
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(tree)
            os.environ |= environment
            sys.dont_write_bytecode = True  # sources change within the second that bytecode is compared by
            sys.path[0] = str(tree)
            code = int(pytest.main([*_QUIET, *options]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), told.read_text(encoding="utf-8", errors="replace")


def load_libraries() -> None:
    """What most tests load, once for all forks; the project's own modules must not be among it."""
    for name in ("numpy", "scipy.sparse.linalg", "scipy.io", "scipy.optimize", "numba", "cv2", "hypothesis", "beartype",
                 "jaxtyping", "pydantic", "zarr", "skimage", "trimesh", "h5py"):  # fmt: skip
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
