"""What `facefoundry doctor` says of machines that lack something."""

import http.server
import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import tomllib
from pathlib import Path

import pytest

from flows import doctor
from flows.doctor import Check, machine_check, model_check, out_check, package_checks, python_check, server_check
from geometry import extras

ROOT = Path(__file__).resolve().parents[2]


def test_an_old_python_is_broken_and_a_new_one_is_not():
    assert python_check((3, 10)).state == "broken"
    assert "3.11" in python_check((3, 10)).remedy
    assert python_check((3, 11)).state == "ok"


def test_a_needed_package_that_is_missing_is_broken_and_an_extras_is_only_absent():
    needs = ["numpy>=2", "no-such-package-here>=1", 'also-not-here>=1; extra == "detect"', 'pytest>=1; extra == "dev"']
    needed, extra = package_checks(needs)
    assert needed == Check("packages", "broken", "no-such-package-here is missing", extras.install_line())
    assert (extra.state, extra.found) == ("absent", "without also-not-here")
    assert extra.remedy == extras.install_line("detect")


def test_the_remedy_is_a_line_that_can_be_typed_in_a_checkout_and_beside_a_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "_CONSTRAINTS", tmp_path / "constraints.txt")
    line = "pip install 'facefoundry[train]'"
    assert (extras.install_line("train"), extras.how_to_get("train")) == (line, line)
    (tmp_path / "constraints.txt").touch()
    line = "pip install -c infra/constraints.txt -e '.[train]'"
    assert (extras.install_line("train"), extras.how_to_get("train")) == (line, f"`make setup`, or {line}")


def test_a_version_outside_its_bounds_is_broken_in_an_extra_too():
    _, extra = package_checks(["numpy>=2", 'numpy<1; extra == "s3"'])
    assert extra.state == "broken"
    assert "(wanted <1)" in extra.found


def test_what_a_requirement_leaves_to_other_machines_and_pythons_is_not_missed():
    (needed,) = package_checks(
        [
            "numpy>=2",
            "no-such-package-here; sys_platform == 'win32'",
            "nor-here; extra == 's3' and python_version < '3'",
        ]
    )
    assert needed.state == "ok"


def test_what_make_setup_brings_is_what_the_doctor_looks_for_and_the_tests_own_extras_are_not():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needs = [f"{need.partition(';')[0]}; extra == '{extra}'" for extra, wanted in extras.items() for need in wanted]
    looked_for = {check.name.split()[1] for check in package_checks(["numpy>=2", *needs]) if check.name != "packages"}
    assert "requirement='.[all,dev,bench]'" in (ROOT / "infra" / "setup.sh").read_text()
    in_all = set(re.search(r"\[(.*)\]", extras["all"][0])[1].split(","))
    assert looked_for == in_all | {"kubernetes"}
    assert looked_for <= set(doctor._PURPOSES)


def test_a_folder_that_cannot_be_written_to_is_broken(tmp_path, monkeypatch):
    assert out_check(str(tmp_path / "not" / "yet")).state == "ok"
    assert list(tmp_path.iterdir()) == []

    def refused(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    assert out_check(str(tmp_path)).state == "broken"


def test_little_memory_means_fewer_workers(monkeypatch):
    monkeypatch.setattr("storage.processes.usable_cores", lambda: 4)
    assert machine_check(8 << 30).state == "ok"
    assert "--workers 2" in machine_check(5 << 29).remedy
    assert "--workers 1" in machine_check(1 << 20).remedy


def test_a_model_file_that_is_none_is_broken_with_the_readers_own_sentence(tmp_path):
    (tmp_path / "BFM.mat").write_bytes(b"no model")
    assert model_check(str(tmp_path / "BFM.mat")).state == "broken"
    assert model_check(None).state == "ok"


def test_no_server_named_is_fine_one_that_is_named_must_answer():
    assert server_check({}).state == "absent"
    assert server_check({"PREFECT_API_URL": "http://127.0.0.1:9/api"}).state == "broken"
    assert server_check({"PREFECT_API_URL": "not an address"}).state == "broken"

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        assert server_check({"PREFECT_API_URL": f"http://127.0.0.1:{server.server_port}/api"}).state == "ok"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("states", "code"), [(("ok", "absent"), 0), (("ok", "broken"), 1)])
def test_the_command_ends_with_1_only_when_something_is_broken(states, code, monkeypatch, capsys):
    from flows.command_line import main

    checks = [Check(f"thing {place}", state, "found", "mend it") for place, state in enumerate(states)]
    monkeypatch.setattr(doctor, "examine", lambda **given: iter(checks))
    for arguments in (["doctor", "--json"], ["doctor"]):
        monkeypatch.setattr(sys, "argv", ["facefoundry", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        printed = capsys.readouterr().out
        if "--json" in arguments:
            told = json.loads(printed)
            assert told["ok"] is (code == 0)
            assert [check["state"] for check in told["checks"]] == list(states)
        else:
            assert printed.count("mend it") == 2


def test_a_machine_that_lacks_much_is_told_what_and_how_to_get_it(tmp_path):
    """This one with torch out of sight, no EGL drivers, no server, and a folder that cannot be written to."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lower().startswith(("torch", "~")) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    out = tmp_path / "datasets"
    out.mkdir()
    out.chmod(0o555)
    plain = (
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    )  # root may write anywhere
    start = "from flows.command_line import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "PYTHON"))}
    environment |= {"PYTHONPATH": f"{ROOT}:{packages}", "__EGL_VENDOR_LIBRARY_FILENAMES": "/dev/null"}
    done = subprocess.run(
        [*plain, sys.executable, "-S", "-c", start, "doctor", "--out", str(out), "--json"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["ok"] is False
    found = {check["name"]: check for check in told["checks"]}
    expected = {
        "extra train (training)": ("absent", "torch", extras.install_line("train")),
        "GPU": ("absent", "torch is not installed", extras.install_line("train")),
        "EGL for pyrender": ("broken", "cannot draw", "apt-get install libegl1"),
        f"out ({out})": ("broken", "Permission denied", "--out that this user may write to"),
        "Prefect server": ("absent", "none is named", "docs/prefect.md"),
    }
    for name, (state, what, remedy) in expected.items():
        assert found[name]["state"] == state, found[name]
        assert what in found[name]["found"], found[name]
        assert remedy in found[name]["remedy"], found[name]
    for check in told["checks"]:
        assert bool(check["remedy"]) == (check["state"] != "ok"), check
