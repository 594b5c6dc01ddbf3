"""Our own model file: mapped not read, the same bytes each time, whole or refused."""

import dataclasses
import json
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from geometry import describe_model, load_model, open_model, save_model
from geometry.model_checks import ModelFileError

ARRAYS = (
    "mean", "identity_basis", "expression_basis", "identity_stddevs", "expression_stddevs", "triangles",
    "landmark_vertices", "regions", "closing_triangles", "mirror", "uv",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(face, writers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("basel")
    writers.lp_shape(folder, face)
    writers.lp_expression(folder, face)
    writers.bfm_uv(folder, face)
    return load_model(folder)


@pytest.fixture
def path(model, tmp_path):
    return save_model(model, tmp_path / "basel.ffmodel.npz")


def test_what_was_saved_is_opened(model, path):
    opened = open_model(path, verify=True)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), getattr(model, name))
    assert (opened.name, opened.licence, opened.fingerprint) == (model.name, model.licence, model.fingerprint)
    assert describe_model(opened) == describe_model(model)


def test_a_model_without_mirror_and_atlas_keeps_being_without(model, tmp_path):
    bare = dataclasses.replace(model, mirror=None, uv=None, closing_triangles=np.zeros((0, 3), np.int32))
    opened = open_model(save_model(bare, tmp_path / "bare.ffmodel.npz"), verify=True)
    assert opened.mirror is None
    assert opened.uv is None
    assert opened.closing_triangles.shape == (0, 3)


def test_a_model_without_expressions_is_kept(model, tmp_path):
    still = dataclasses.replace(
        model, expression_basis=np.zeros((0, 3 * model.n_vertices), np.float32), expression_stddevs=np.zeros(0)
    )
    opened = open_model(save_model(still, tmp_path / "still.ffmodel.npz"), verify=True)
    assert opened.n_expression == 0
    np.testing.assert_array_equal(opened.vertices(opened.neutral()), model.mean)


def test_load_model_reads_it_by_name_and_by_content(model, path):
    assert load_model(path).fingerprint == model.fingerprint
    assert load_model(str(path)).fingerprint == model.fingerprint
    renamed = path.rename(path.with_name("renamed.bin"))
    assert load_model(renamed).fingerprint == model.fingerprint


def test_numpy_reads_it_too(model, path):
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["identity_basis"], model.identity_basis)
        assert json.loads(archive["meta.json"])["units"] == "mm"


def test_arrays_are_mapped_aligned_and_read_only(path):
    opened = open_model(path)
    for name in ARRAYS:
        array = getattr(opened, name)
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0, name


def test_the_fingerprint_is_not_computed_again(path, monkeypatch):
    monkeypatch.setattr("geometry.morphable_model.fingerprint_of", lambda arrays: pytest.fail("hashed on open"))
    assert len(open_model(path).fingerprint) == 32


def test_opening_takes_milliseconds(path):
    open_model(path)
    start = time.perf_counter()
    open_model(path)
    assert time.perf_counter() - start < 0.05


def test_the_same_model_gives_the_same_bytes(model, path, tmp_path):
    again = save_model(model, tmp_path / "again.ffmodel.npz")
    assert again.read_bytes() == path.read_bytes()


def test_saving_an_opened_model_gives_the_same_bytes(path, tmp_path):
    again = save_model(open_model(path), tmp_path / "again.ffmodel.npz")
    assert again.read_bytes() == path.read_bytes()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(model, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_another_suffix_or_type_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match=r"named \*\.ffmodel\.npz"):
        save_model(model, tmp_path / "model.npz")
    halved = dataclasses.replace(model, identity_stddevs=model.identity_stddevs.astype(np.float32))
    with pytest.raises(ValueError, match="identity_stddevs is float32 and the file keeps <f8"):
        save_model(halved, tmp_path / "halved.ffmodel.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0.9999, 0.5, 0.01])
def test_a_file_cut_short_is_refused(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelFileError, match="is not a whole model file .* cut short or damaged"):
        open_model(path)


def test_a_changed_byte_is_found_when_asked(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    open_model(path)
    with pytest.raises(ModelFileError, match="its content has fingerprint .* it was written with"):
        open_model(path, verify=True)


def test_no_changed_byte_gives_another_model_under_the_same_fingerprint(model, path):
    """Anywhere in the file: the bytes around the arrays too, which the fingerprint does not cover."""
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    places = [*range(0, 1500, 23), *range(directory, len(whole), 17), *range(1500, directory, directory // 40)]
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            opened = open_model(path, verify=True)
        except ModelFileError:
            continue
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(opened, name), getattr(model, name), err_msg=f"{name}, byte {place}")


def rewritten(path, changes: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> None:
    """The same archive with some members changed, or left out where the change is None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(name, content)


def npy(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("member", "content", "sentence"),
    [
        ("mean.npy", None, "lacks mean: it is damaged"),
        ("mean.npy", npy(np.zeros((5, 3))), "mean holds float64, where the format has <f4"),
        ("mean.npy", npy(np.array([{"a": 1}], dtype=object)), "mean holds object, where the format has <f4; refused"),
        ("mean.npy", b"not an array", "mean is not an array"),
        ("mean.npy", npy(np.zeros((9, 3), np.float32))[:-4], r"mean should be \(9, 3\) of float32 but has 104 bytes"),
        ("meta.json", b"{", "meta.json is damaged"),
        ("meta.json", b'{"kind": "facefoundry morphable model"}', "meta.json is damaged"),
        ("meta.json", None, "has no meta.json"),
    ],
)
def test_a_damaged_member_is_refused(path, member, content, sentence):
    rewritten(path, {member: content})
    with pytest.raises(ModelFileError, match=sentence):
        open_model(path)


def test_members_that_no_writer_aligned_are_opened_all_the_same(model, path):
    rewritten(path, {})
    np.testing.assert_array_equal(open_model(path, verify=True).identity_basis, model.identity_basis)


def test_compressed_members_cannot_be_mapped(path):
    rewritten(path, {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="is compressed or outside the file"):
        open_model(path)


def test_two_members_of_one_name_are_refused(path):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mean.npy", b"x")
    with pytest.raises(ModelFileError, match="two members of one name"):
        open_model(path)


def test_a_newer_format_is_refused(path):
    with zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("meta.json"))
    rewritten(path, {"meta.json": json.dumps({**meta, "format": 2}).encode()})
    with pytest.raises(
        ModelFileError, match="has format 2 and this version of facefoundry reads 1: update facefoundry"
    ):
        open_model(path)


def test_a_member_that_claims_more_than_the_file_holds_is_refused(path):
    """The central directory's size of `uv`, the last member, is raised by 4,096 bytes."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    for offset in (20, 24):
        (size,) = struct.unpack_from("<I", content, entry + offset)
        struct.pack_into("<I", content, entry + offset, size + 4096)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="cut short or"):
        open_model(path)


def test_importing_geometry_is_quick_and_loads_no_foreign_reader():
    """In a process of its own, since this one has long loaded everything."""
    program = (
        "import sys, time; start = time.perf_counter(); import geometry; seconds = time.perf_counter() - start; "
        "geometry.load_model; heavy = {'scipy.io', 'h5py', 'numba', 'torch'} & set(sys.modules); print(seconds, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split(maxsplit=1)
    assert float(seconds) < 0.5
    assert heavy.strip() == "set()"


def test_every_exported_name_is_there():
    import geometry

    for name in geometry.__all__:
        assert callable(getattr(geometry, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'tutt'"):
        geometry.tutt  # noqa: B018
