"""The child that opens MATLAB files: SciPy is its reference on good files, and bad ones cost only themselves."""

import functools
import io
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import storage
from storage.bad_sample import BadSample
from storage.mat_child import KNOWN_NAMES, MAX_FILE_BYTES, BadMat, parse
from storage.mat_reader import MatReader

ROOT = Path(__file__).resolve().parents[2]


def good_variables(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "pt2d": rng.uniform(1, 450, (2, 68)),
        "roi": np.array([[53, -166, 638, 419]], np.int16),
        "Illum_Para": rng.uniform(0, 1, (1, 10)),
        "Color_Para": rng.uniform(0, 1, (1, 7)).astype(np.float32),
        "Tex_Para": rng.normal(0, 100, (199, 1)),
        "Shape_Para": rng.normal(0, 3e5, (199, 1)),
        "Exp_Para": rng.normal(0, 1, (29, 1)),
        "Pose_Para": np.array([[-0.13, -0.77, 0.06, 183.6, 189.5, -81.7, 1.3e-3]], np.float32),
    }


def saved(variables: dict[str, object], **options: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **{"do_compression": True, **options})
    return stream.getvalue()


def as_scipy_reads(data: bytes) -> dict[str, np.ndarray]:
    return {name: value for name, value in scipy.io.loadmat(io.BytesIO(data)).items() if name in KNOWN_NAMES}


def as_we_read(data: bytes) -> dict[str, np.ndarray]:
    return {
        array.name: np.frombuffer(array.data, array.type_code).reshape((array.rows, array.columns), order="F")
        for array in parse(data)
    }


def assert_same(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.fixture(scope="module")
def good() -> bytes:
    return saved(good_variables(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def reader():
    with MatReader() as reader:
        yield reader


# --- MATLAB files by hand: what SciPy would not write ---


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(
    name: str,
    dimensions: tuple[int, ...],
    data: bytes,
    *,
    data_type: int = 9,
    class_number: int = 6,
    flags: int = 0,
    order: str = "<",
) -> bytes:
    body = element(6, struct.pack(order + "II", class_number | flags, 0), order)
    body += element(5, struct.pack(f"{order}{len(dimensions)}i", *dimensions), order)
    body += element(1, name.encode(), order) + element(data_type, data, order)
    return element(14, body, order)


def header(order: str = "<") -> bytes:
    mark = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    return b"MATLAB 5.0 MAT-file, by hand".ljust(124) + mark


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


def zeros_bomb(name: str, n_bytes: int) -> bytes:
    whole = matrix(name, (1, n_bytes // 8), b"")[:-8]
    head = struct.pack("<II", 14, len(whole) - 8 + 8 + n_bytes) + whole[8:] + struct.pack("<II", 9, n_bytes)
    packer = zlib.compressobj(9)
    packed = (
        packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(n_bytes >> 20)) + packer.flush()
    )
    return header() + struct.pack("<II", 15, len(packed)) + packed


def nested_cells(depth: int) -> bytes:
    inner = matrix("", (1, 1), bytes(8))
    heads, length = [], len(inner)
    for level in range(depth):
        name = b"" if level < depth - 1 else b"Exp_Para"
        start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, name)
        heads.append(struct.pack("<II", 14, len(start) + length) + start)
        length += len(heads[-1])
    return header() + compressed(b"".join(reversed(heads)) + inner)


# --- agreement with SciPy on everything that is as it should be ---


@pytest.mark.parametrize("compression", [True, False])
def test_the_arrays_are_those_that_scipy_reads(good, compression):
    data = saved(good_variables(np.random.default_rng(1)), do_compression=compression)
    assert_same(as_we_read(data), as_scipy_reads(data))


@settings(max_examples=60)
@given(
    shapes=st.dictionaries(
        st.sampled_from(sorted(KNOWN_NAMES)), st.tuples(st.integers(1, 12), st.integers(1, 70)), min_size=1
    ),
    kind=st.sampled_from(["f8", "f4", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"]),
    compression=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_shape_and_number_type_reads_as_scipy_reads_it(shapes, kind, compression, seed):
    rng = np.random.default_rng(seed)
    data = saved({n: rng.integers(0, 100, s).astype(kind) for n, s in shapes.items()}, do_compression=compression)
    assert_same(as_we_read(data), as_scipy_reads(data))


def test_numbers_come_out_of_the_pipe_as_they_went_in(reader, good):
    (answer,) = reader.read_many([good])
    assert_same(answer, as_scipy_reads(good))
    assert not answer["Shape_Para"].flags.writeable


def test_doubles_that_matlab_stored_as_bytes_keep_their_values(reader):
    """MATLAB shrinks whole doubles: Exp_Para is uint8 in 34 files of AFLW2000-3D."""
    data = header() + matrix("Exp_Para", (29, 1), bytes(range(29)), data_type=2)
    assert_same(as_we_read(data), as_scipy_reads(data))
    (answer,) = reader.read_many([data])
    np.testing.assert_array_equal(answer["Exp_Para"][:, 0], np.arange(29))


def test_small_elements_keep_their_bytes_in_the_tag():
    body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, 4))
    body += struct.pack("<I", 3 << 16 | 1) + b"roi\x00" + struct.pack("<I", 4 << 16 | 2) + bytes([1, 2, 3, 200])
    data = header() + element(14, body)
    assert_same(as_we_read(data), as_scipy_reads(data))
    assert as_we_read(data)["roi"].tolist() == [[1, 2, 3, 200]]


def test_a_big_endian_file_gives_the_same_numbers(reader):
    values = (np.arange(7) / 8).astype(">f4")
    data = header(">") + matrix("Pose_Para", (1, 7), values.tobytes(), data_type=7, class_number=7, order=">")
    (answer,) = reader.read_many([data])
    assert answer["Pose_Para"].dtype == np.dtype("=f4")
    np.testing.assert_array_equal(answer["Pose_Para"][0], values)


def test_variables_of_other_names_are_passed_over_whatever_they_are(reader, good):
    others = {
        "notes": "text",
        "history": {"fitted": 1, "by": "hand"},
        "cells": np.array([np.zeros(3), "x"], dtype=object),
        "sparse": scipy.sparse.csc_array(np.eye(3)),
        "z": np.zeros((1, 3)) + 1j,
        "large": np.random.default_rng(0).normal(size=(300, 300)),
        "volume": np.zeros((2, 3, 4)),
    }
    for compression in (True, False):
        data = saved(others | good_variables(np.random.default_rng(0)), do_compression=compression)
        (answer,) = reader.read_many([data])
        assert_same(answer, as_scipy_reads(good))


@pytest.mark.parametrize("compression", [True, False])
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else_happens(compression, data):
    content = bytearray(saved(good_variables(np.random.default_rng(2)), do_compression=compression))
    end = data.draw(st.sampled_from([400, len(content)]))
    places = data.draw(st.lists(st.tuples(st.integers(0, end - 1), st.integers(0, 255)), max_size=16))
    for place, value in places:
        content[place] = value
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    try:
        arrays = parse(bytes(content[:cut]))
    except BadMat:
        return
    for array in arrays:
        assert len(array.data) == array.rows * array.columns * np.dtype(array.type_code).itemsize


# --- bad files ---


def hdf5_file() -> bytes:
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(64)


def with_shape_para(value: object) -> bytes:
    return saved(good_variables(np.random.default_rng(0)) | {"Shape_Para": value})


@functools.cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    variables = good_variables(np.random.default_rng(0))
    plain, packed = saved(variables, do_compression=False), saved(variables)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    array = matrix("Exp_Para", (29, 1), bytes(29 * 8))
    return {
        "half of it": (plain[: len(plain) // 2], "mat.truncated"),
        "half of it, compressed": (packed[: len(packed) // 2], "mat.truncated"),
        "within the header": (plain[:100], "mat.truncated"),
        "within a tag": (plain[:132], "mat.truncated"),
        "empty": (b"", "mat.empty"),
        "text": (b"hello", "mat.not_matlab"),
        "a page of text": (b"<html>rate limited</html>" * 20, "mat.not_matlab"),
        "zeros": (bytes(1 << 20), "mat.not_matlab"),
        "version 7.3": (hdf5_file(), "mat.v73"),
        "HDF5 with no header": (b"\x89HDF\r\n\x1a\n" + bytes(200), "mat.v73"),
        "version 4": (
            saved({n: v.astype("f8") for n, v in variables.items()}, format="4", do_compression=False),
            "mat.v4",
        ),
        "first element claims 2 GB": (plain[:128] + struct.pack("<II", 14, 0x7FFFFFFF) + plain[136:], "mat.truncated"),
        "dimensions lie": (header() + matrix("Shape_Para", (40000, 40000), bytes(8)), "mat.too_large"),
        "dimensions lie a little": (header() + matrix("Shape_Para", (199, 1), bytes(8)), "mat.corrupt"),
        "negative dimensions": (header() + matrix("Shape_Para", (-199, 1), bytes(8)), "mat.shape"),
        "two negative dimensions": (header() + matrix("Shape_Para", (-1, -1), bytes(8)), "mat.shape"),
        "three dimensions": (header() + matrix("pt2d", (2, 1, 1), bytes(16)), "mat.shape"),
        "nested cells": (nested_cells(5000), "mat.class"),
        "number type 8": (header() + matrix("Exp_Para", (1, 1), bytes(8), data_type=8), "mat.corrupt"),
        "zlib bomb": (zeros_bomb("Exp_Para", 64 << 20), "mat.too_large"),
        "more than announced": (header() + compressed(array + bytes(64)), "mat.too_large"),
        "less than announced": (header() + compressed(array[:-16]), "mat.truncated"),
        "no end of the compressed data": (header() + compressed(array)[:-4] + bytes(4), "mat.corrupt"),
        "a byte flipped in compressed data": (bytes(flipped), "mat.corrupt"),
        "cell": (with_shape_para(np.array([np.zeros(3), "x"], dtype=object)), "mat.class"),
        "struct": (with_shape_para({"a": 1}), "mat.class"),
        "text for numbers": (with_shape_para("199 numbers"), "mat.class"),
        "sparse": (with_shape_para(scipy.sparse.csc_array(np.eye(199)[:, :1])), "mat.class"),
        "complex": (saved(variables | {"Exp_Para": np.zeros((29, 1)) + 1j}), "mat.complex"),
        "a name twice": (plain + plain[128:], "mat.duplicate_key"),
        "not a variable": (plain + element(9, bytes(8)), "mat.corrupt"),
        "very many variables": (header() + matrix("x", (1, 1), bytes(8)) * 1001, "mat.too_large"),
        "a large file": (plain + bytes(MAX_FILE_BYTES), "mat.too_large"),
    }


@pytest.mark.parametrize("what", bad_files())
def test_a_bad_file_is_refused_by_its_right_name_and_the_next_one_reads(reader, good, what):
    data, code = bad_files()[what]
    child = reader.child_pid
    bad, after = reader.read_many([data, good])
    assert isinstance(bad, BadSample)
    assert bad.code == code, bad.sentence
    assert len(bad.sentence) > 20
    assert_same(after, as_scipy_reads(good))
    assert child in (None, reader.child_pid), "the child should have survived this"


def test_a_bomb_under_an_unknown_name_is_not_inflated(reader, good):
    data = zeros_bomb("x", 128 << 20) + good[128:]
    (answer,) = reader.read_many([data])
    assert_same(answer, as_scipy_reads(good))
    status = Path(f"/proc/{reader.child_pid}/status").read_text()
    peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_kb < 64 << 10


def test_refusals_say_what_to_do(reader):
    (bad,) = reader.read_many([hdf5_file()])
    assert bad.sentence == "a MATLAB 7.3 (HDF5) file is not read; save it again with save(…, '-v7')"


# --- bad children ---

WORSE = """
import ctypes, os, sys, time
sys.path.insert(0, {root!r})
from storage.mat_child import limit_this_process, parse, serve
def worse(data):
    if data == b"crash":
        ctypes.string_at(0)
    if data == b"hang":
        time.sleep(60)
    if data == b"spin":
        while True: pass
    if data == b"eat":
        bytearray(4 << 30)
    if data == b"lie":
        os.write(1, b"\\xff" * 64)
    return parse(data)
limit_this_process()
serve(sys.stdin.buffer, os.fdopen(1, "wb"), worse)
"""


@pytest.fixture
def worse(tmp_path) -> MatReader:
    (tmp_path / "worse.py").write_text(WORSE.format(root=str(Path(storage.__file__).parents[1])))
    with MatReader(timeout_s=0.4, command=[sys.executable, "-S", str(tmp_path / "worse.py")]) as reader:
        yield reader


@pytest.mark.parametrize(
    ("what", "code"),
    [(b"crash", "mat.crash"), (b"hang", "mat.timeout"), (b"lie", "mat.crash"), (b"eat", "mat.memory")],
)
def test_a_file_that_ends_or_stops_the_child_costs_itself_alone(worse, good, what, code):
    answers = worse.read_many([good, good, what, good])
    assert [a.code if isinstance(a, BadSample) else "good" for a in answers] == [
        "good",
        "good",
        code,
        "good",
    ]
    assert_same(answers[-1], as_scipy_reads(good))


def test_a_child_killed_by_somebody_else_costs_no_file(worse, good):
    worse.read_many([good])
    for _ in range(2):
        os.kill(worse.child_pid, signal.SIGKILL)
        worse.submit([good] * 40)
        assert all(isinstance(answer, dict) for answer in worse.results())


def test_a_child_killed_while_it_works_costs_no_file(reader, good):
    reader.submit([good] * 400)
    os.kill(reader.child_pid, signal.SIGKILL)
    answers = reader.results()
    assert len(answers) == 400
    assert all(isinstance(answer, dict) for answer in answers)


def test_much_more_than_the_pipe_holds_is_no_deadlock(reader):
    data = saved({"Shape_Para": np.random.default_rng(0).normal(size=(2000, 1))}, do_compression=False)
    reader.submit([data] * 300)
    reader.submit([data] * 300)
    answers = reader.results()
    assert len(answers) == 600
    assert all(answer["Shape_Para"].shape == (2000, 1) for answer in answers)
    assert reader.results() == []


def test_the_child_has_limits(reader, good):
    import resource

    reader.read_many([good])
    assert resource.prlimit(reader.child_pid, resource.RLIMIT_AS)[0] <= 512 << 20
    assert resource.prlimit(reader.child_pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(reader.child_pid, resource.RLIMIT_FSIZE) == (0, 0)
    assert resource.prlimit(reader.child_pid, resource.RLIMIT_CPU)[0] <= 60


def test_a_closed_reader_leaves_no_process_and_can_be_used_again(good):
    reader = MatReader()
    reader.read_many([good])
    first = reader.child_pid
    reader.close()
    assert not Path(f"/proc/{first}").exists()
    assert isinstance(reader.read_many([good])[0], dict)
    reader.close()


def test_a_forgotten_reader_ends_its_child(good):
    reader = MatReader()
    reader.read_many([good])
    pid = reader.child_pid
    del reader
    assert not Path(f"/proc/{pid}").exists()


def test_the_child_ends_when_its_parent_is_killed(tmp_path, good):
    (tmp_path / "good.mat").write_bytes(good)
    program = (
        f"import sys, time; sys.path.insert(0, {str(Path(storage.__file__).parents[1])!r})\n"
        "from storage.mat_reader import MatReader\n"
        "reader = MatReader()\n"
        f"reader.read_many([open({str(tmp_path / 'good.mat')!r}, 'rb').read()])\n"
        "print(reader.child_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # where nobody adopts orphans, the ended child's entry stays


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, beside other tests' threads
def test_a_forked_process_gets_a_child_of_its_own(reader, good):
    reader.submit([good] * 3)
    pid = os.fork()
    if pid == 0:  # never return into the test runner
        ok = False
        try:
            ok = len(reader.read_many([good])) == 1
            reader.close()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(reader.results()) == 3


def test_a_child_that_does_not_start_is_our_failure_and_no_files(good):
    with (
        MatReader(command=[sys.executable, "-c", "raise SystemExit('no such thing')"]) as reader,
        pytest.raises(RuntimeError, match=r"(?s)does not start \(exit status 1, 3 attempts\).*no such thing"),
    ):
        reader.read_many([good])


DIES_AT_FIRST = """
import os, runpy, signal, sys
counter = sys.argv[1]
with open(counter, "a") as file:
    file.write("x")
if os.path.getsize(counter) <= int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
runpy.run_module("storage.mat_child", run_name="__main__")
"""


def test_a_child_that_is_killed_before_it_is_ready_is_started_again_and_not_for_ever(tmp_path, good):
    def command(name: str, deaths: int) -> list[str]:
        return [sys.executable, "-c", DIES_AT_FIRST, str(tmp_path / name), str(deaths)]

    with MatReader(command=command("twice", 2)) as reader:
        (answer,) = reader.read_many([good])
    assert isinstance(answer, dict)
    with MatReader(command=command("always", 99)) as reader:
        for attempts in (3, 6):  # each call has its own
            with pytest.raises(RuntimeError, match=r"does not start \(exit status -9, 3 attempts\)"):
                reader.read_many([good])
            assert (tmp_path / "always").stat().st_size == attempts


def test_the_child_loads_nothing_but_the_standard_library():
    """And of our own folders no more than their lazy names and where compiled kernels would be kept."""
    program = (
        "import sys; before = set(sys.modules); import storage.mat_child; "
        "ours = {'storage', 'storage.mat_child', 'storage.processes'}; "
        "ours |= {'geometry', 'geometry.lazy_names', 'geometry.kernel_cache'}; "
        "new = sys.modules.keys() - before - ours; "
        "print(sorted(m for m in new if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
