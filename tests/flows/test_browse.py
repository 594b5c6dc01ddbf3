"""`facefoundry browse`: it shows any sample, reads what it shows, and answers to this machine about this data set alone."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from flows import browse
from flows.browse import browse_app, listening


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("browse"), holes=(4,))


@pytest.fixture(scope="module")
def client(faces):
    with TestClient(browse_app(faces), base_url=f"http://{browse.HOST}") as client:
        yield client


def test_every_sample_is_there_with_its_numbers_picture_and_overlays(client, faces):
    for number in range(len(faces)):
        described = client.get(f"/samples/{number}.json").json()
        assert described["id"] == faces[number]["source_id"]
        assert np.allclose(described["landmarks"][0], faces[number]["landmarks_px"][:, :2], atol=0.051)
        content = client.get(f"/samples/{number}/image.webp").content
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert np.abs(picture.astype(int) - faces[number]["image"]).mean() < 6
        assert client.get(f"/samples/{number}/map.webp").content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    "path",
    [
        "/samples/9.json", "/samples/-1.json", "/samples/9/image.webp", "/samples/0/parts.webp", "/samples/x/image.webp",
        "/manifest.json", "/samples/0/../../manifest.json", "/samples/..%2f..%2fmanifest.json", "/samples/0/%2e%2e.webp",
        "/docs", "/openapi.json", "/static/page.js", "//etc/passwd", "/%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_nothing_else_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert b"fingerprint" not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_changed(client, method):
    assert getattr(client, method)("/").status_code == 405


def test_a_page_from_elsewhere_gets_no_answer(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert "access-control-allow-origin" not in client.get("/", headers={"origin": "http://evil.example"}).headers
    assert client.get("/samples/0/image.webp").headers["cross-origin-resource-policy"] == "same-origin"


def test_opening_reads_no_pictures_and_a_picture_reads_one(faces, monkeypatch):
    asked: list[tuple[int, set[str]]] = []
    read = type(faces).read

    def recorded(self, indices, targets=None):
        asked.append((len(indices), set(targets or ())))
        return read(self, indices, targets)

    monkeypatch.setattr(type(faces), "read", recorded)
    with TestClient(browse_app(faces), base_url=f"http://{browse.HOST}") as client:
        client.get("/")
        assert not {"image", "position_map"} & set.union(*(names for _, names in asked))
        asked.clear()
        client.get("/samples/5/image.webp")
        assert asked == [(1, {"image"})]


def test_of_a_large_data_set_a_spread_is_indexed_and_any_sample_opens(faces, monkeypatch):
    monkeypatch.setattr(browse, "INDEXED", 4)
    with TestClient(browse_app(faces), base_url=f"http://{browse.HOST}") as client:
        page = client.get("/").text
        assert "4 of 9, spread evenly" in page
        assert re.findall(r'"n":(\d+)', page) == ["0", "2", "5", "8"]
        assert client.get("/samples/7.json").status_code == 200


def test_it_listens_on_this_machine_alone():
    with listening(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_told_with_what_to_do():
    with listening(0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken, .*--port 0 takes a free one"):
            listening(port)


def test_the_command_serves_until_it_is_interrupted(faces):
    start = "from flows.command_line import main; main()"
    command = [sys.executable, "-c", start, "browse", str(faces.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        address = process.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"Data card" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}samples/9.json", timeout=30)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()
