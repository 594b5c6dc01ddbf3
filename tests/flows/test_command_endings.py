"""How commands end: exit codes, Ctrl-C, readers that leave, terminals and pipes, names that are no ASCII."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from geometry.extras import how_to_get
from storage.publish import builders_lock
from tests.command_runs import START, in_a_process, on_a_terminal, without_signs_of_life
from tests.flows.test_command_help import COMMANDS

SMALL = ("--identities", "1", "--expressions", "1", "--views", "1", "--workers", "1")

FAILING = {
    "build": ("300wlp-posmaps", "--source", "nowhere"),
    "sample": ("a_file/below", *SMALL),
    "people": ("--out", "a_file/below", "--n-people", "1", "--expressions", "1", "--views", "1", "--workers", "1"),
    "profile": ("nowhere",),
    "florence": ("nowhere.obj",),
    "fit": ("nowhere.jpg",),
    "fit-landmarks": ("nowhere",),
    "list": ("--out", "a_file"),
    "info": ("nowhere",),
    "diff": ("nowhere", "0123", "4567"),
    "verify": ("nowhere",),
    "prune": ("nowhere", "--keep", "1"),
    "pin": ("nowhere", "0123", "me"),
    "export": ("nowhere", "--to", "parquet", "--out", "new"),
    "show": ("nowhere",),
    "browse": ("nowhere", "--port", "0"),
    "unwrap": ("nowhere.obj",),
    "model import": ("nowhere.mat",),
    "model info": ("nowhere.mat",),
    "train": ("prnet", "--data", "nowhere"),
    "evaluate": ("nowhere.pt", "nowhere"),
    "predict": ("nowhere.pt", "nowhere.jpg"),
    "export-onnx": ("nowhere.pt", "new.onnx"),
    "deploy": ("--infra", "nowhere"),
    "doctor": ("--model", "nowhere.mat"),
}


def test_every_command_is_tried():
    assert set(FAILING) == set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in FAILING if name != "doctor"])
def test_a_failure_is_code_1_and_one_sentence_that_says_what(name, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_bytes(b"")
    ended = run(*name.split(), *FAILING[name], "--json")
    assert ended.code == 1, ended.err
    sentence = ended.err.splitlines()[-1]
    assert sentence.startswith("facefoundry: ")
    assert "nowhere" in sentence or "a_file" in sentence
    assert "Traceback" not in ended.err
    assert ended.out == "" or ended.json


def test_a_data_set_that_someone_else_builds_is_code_4(run, sample_folder, tmp_path):
    with builders_lock(tmp_path / "300wlp-posmaps"):
        built = run("build", "300wlp-posmaps", "--source", sample_folder, "--out", tmp_path, "--json")
    assert built.code == 4
    assert "300wlp-posmaps" in built.complaint


def interrupt(*arguments: object, **options: object) -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_one_sentence_and_code_130(run, monkeypatch, tmp_path):
    monkeypatch.setattr("flows.local.build_here", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    try:
        ended = run("build", "300wlp-posmaps", "--source", tmp_path, "--out", tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == 130
    assert "the same command goes on" in ended.complaint


HELD_UP = """
import hashlib, os, signal, threading, time
from concurrent.futures import ThreadPoolExecutor
import flows.local
from flows.command_line import main

def for_threads():
    with ThreadPoolExecutor() as pool:
        pool.submit(time.sleep, 60)

def for_what_hears_no_signals():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**30)

def type_twice():
    for _ in range(2):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

def wait(*arguments, **options):
    threading.Thread(target=type_twice, daemon=True).start()
    {wait}()

signal.signal(signal.SIGINT, signal.default_int_handler)
flows.local.build_here = wait
main()
"""


@pytest.mark.parametrize("wait", ["for_threads", "for_what_hears_no_signals"])
def test_a_second_ctrl_c_waits_for_nothing(wait, tmp_path):
    """Neither for threads at work nor for a library's call, as to an object store that has gone silent."""
    began = time.monotonic()
    ended = in_a_process("build", "ear-fields", "--source", ".", script=HELD_UP.format(wait=wait), cwd=tmp_path)
    assert time.monotonic() - began < 30
    assert ended.code in (130, -signal.SIGINT)  # a shell says 130 of both
    assert (
        without_signs_of_life(ended.err)
        == "facefoundry: stopped; what is finished is kept, and the same command goes on\n"
    )


AT_THE_START = """
import os, signal
from multiprocessing import forkserver
from flows.local import in_workers, start_forkserver
signal.signal(signal.SIGINT, signal.default_int_handler)
start_forkserver(pow)
started = forkserver._forkserver._forkserver_pid
os.kill(started, signal.SIGINT)  # as a terminal does it to all of its processes
print(sorted(in_workers(pow, [(2, 3), (2, 4)], 2)), forkserver._forkserver._forkserver_pid == started)
print(list(in_workers(signal.pthread_sigmask, [(signal.SIG_BLOCK, ())] * 2, 2)))
print(list(in_workers(signal.getsignal, [(signal.SIGINT,)] * 2, 2)) == [signal.SIG_DFL] * 2)
"""


def test_ctrl_c_while_workers_are_made_ready_shows_no_traceback_and_workers_hear_it():
    ended = subprocess.run([sys.executable, "-c", AT_THE_START], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("[8, 16] True\n[set(), set()]\nTrue\n", "")


SHORT_OF_MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 4.86 MiB"),
    ImportError("libx.so: failed to map segment from shared object"),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", [*SHORT_OF_MEMORY, "of OpenCV"], ids=str)
def test_want_of_memory_is_one_sentence_that_says_what_to_do(error, run, monkeypatch, tmp_path):
    def too_large(*arguments: object, **options: object) -> None:
        if isinstance(error, str):
            cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), 0, 2**30, 0, 2**30, cv2.BORDER_CONSTANT)  # an exbibyte
        raise error

    monkeypatch.setattr("flows.local.build_here", too_large)
    ended = run("build", "300wlp-posmaps", "--source", tmp_path, "--out", tmp_path)
    assert ended.code == 1
    assert "memory ran out" in ended.complaint
    assert ended.complaint.endswith("start the same command again; what is finished is kept\n")


def test_a_fault_of_ours_keeps_its_traceback(run, monkeypatch, tmp_path):
    def faulty(*arguments: object, **options: object) -> None:
        raise TypeError("nobody but us can mend this")

    monkeypatch.setattr("flows.local.build_here", faulty)
    with pytest.raises(TypeError, match="nobody but us"):
        run("build", "300wlp-posmaps", "--source", tmp_path, "--out", tmp_path)


@pytest.mark.parametrize("words", ["model info built-in", "model info built-in --json", "--help"])
def test_a_reader_that_has_left_ends_it_silently(words):
    start = f"{sys.executable} -c 'import time; time.sleep(2); {START}' {words}"  # `true` is gone by then
    line = f"{start} | true; echo ${{PIPESTATUS[0]}} >&2"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, without_signs_of_life(ended.stderr)) == ("", "141\n")


def test_a_full_disk_under_the_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", START, "model", "info", "built-in"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


ASCII_ALONE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_that_are_no_ascii_are_read_and_told_in_any_locale(sample_folder, tmp_path):
    source = tmp_path / "Gesichter – schön"
    shutil.copytree(sample_folder, source)
    build = ("build", "300wlp-posmaps", "--size", "128", "--workers", "1", "--source", source)
    told = in_a_process(*build, "--out", tmp_path / "für alle", environment=ASCII_ALONE)
    assert told.code == 0, told.err
    assert "f\\xfcr alle" in told.out.replace("\\udcc3\\udcbc", "\\xfc")
    again = in_a_process(*build, "--out", tmp_path / "für alle", "--json", environment={"LC_ALL": "C.UTF-8"})
    assert again.json["path"].startswith(str(tmp_path / "für alle"))
    assert again.json["version"] in told.out  # by any locale the same one


def test_a_name_that_is_no_text_at_all_is_told(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    ended = in_a_process("list", "--out", os.fsdecode(folder), environment={"LC_ALL": "C.UTF-8"})
    assert (ended.code, ended.out) == (0, "")
    assert "caf\\udce9" in ended.err


@pytest.mark.parametrize("columns", [60, 100])
def test_on_a_terminal_progress_is_a_bar_that_fits(columns, tmp_path):
    ended = on_a_terminal("sample", tmp_path / "new", *SMALL, columns=columns)
    assert ended.code == 0, ended.err
    assert "1/1" in ended.err
    assert "\x1b[" in ended.err  # drawn over and over
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.err).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    assert ended.out.count("\n") == 1


def test_no_color_is_heard(tmp_path):
    colours = r"\x1b\[(?:3[0-9]|38;)[0-9;]*m"
    assert re.search(colours, on_a_terminal("sample", tmp_path / "one", *SMALL).err)
    assert not re.search(colours, on_a_terminal("sample", tmp_path / "two", *SMALL, environment={"NO_COLOR": "1"}).err)


def test_in_a_pipe_progress_is_plain_lines_and_under_json_there_is_none(tmp_path):
    told = in_a_process("sample", tmp_path / "one", *SMALL)
    assert told.err.splitlines()[-1].startswith("sample: 1/1 families, ")
    assert not set(told.err) & {"\r", "\x1b"}
    silent = in_a_process("sample", tmp_path / "two", *SMALL, "--json")
    assert silent.err == ""
    assert silent.json["families"] == 1


def test_workers_are_of_this_installation_whatever_lies_in_the_current_folder(sample_folder, tmp_path):
    for name in ("geometry", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('somebody else’s')\n")
    script = f"import sys; sys.path[:] = [path for path in sys.path if path]; {START}"
    ended = in_a_process(
        "profile", sample_folder, "--out", tmp_path / "new", "--yaw-step", "45", "--workers", "2", "--json",
        script=script, cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.err == ""


def test_what_an_extra_brings_is_named_with_it_where_it_is_missing(tmp_path):
    """`make build` installs no torch."""
    script = f"import sys; sys.modules['torch'] = None; {START}"
    ended = in_a_process("train", "dan", "--data", "nowhere", script=script, cwd=tmp_path)
    assert ended.code == 1
    assert without_signs_of_life(ended.err).splitlines() == [
        f"facefoundry: this needs torch, which is not installed: {how_to_get('train')}"
    ]
