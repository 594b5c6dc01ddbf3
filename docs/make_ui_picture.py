"""The pictures of docs/orchestration.md: a finished run on the server's page, and its artifacts, in a browser without a window.

    PREFECT_API_URL=http://127.0.0.1:4200/api python docs/make_ui_picture.py [--flow build-300wlp-posmaps] [--artifact KEY]

Needs Debian's chromium, the extra `browser`, and a server on which the flow has run: docs/orchestration.md tells of which
runs the pictures in docs/pictures are. Writes docs/pictures/server-run.png and docs/pictures/server-artifact.png.
"""

import argparse
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PICTURES = Path(__file__).with_name("pictures")
WINDOW = {"width": 1280, "height": 960}
WIDTH_PX = 1000


def ask(api: str, path: str, body: dict[str, Any]) -> Any:
    """POST of a JSON body to the server's API."""
    request = urllib.request.Request(f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def save(page: Page, path: Path) -> None:
    """The window as a small PNG."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # the timeline draws itself
    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    height = round(picture.shape[0] * WIDTH_PX / picture.shape[1])
    small = cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    flat = small & 0xF0 | small >> 4  # sixteen steps of each colour: a third of the bytes
    cv2.imwrite(str(path), flat, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flow", default="build-300wlp-posmaps")
    parser.add_argument("--artifact", default="300wlp-posmaps-summary")
    given = parser.parse_args()
    api = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api").rstrip("/")
    pages = api.removesuffix("/api")
    finished = {"flows": {"name": {"any_": [given.flow]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    run = ask(api, "/flow_runs/filter", {**finished, "sort": "END_TIME_DESC", "limit": 1})[0]
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}, "artifacts": {"key": {"any_": [given.artifact]}}}
    artifact = ask(api, "/artifacts/filter", wanted)[0]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)
        page.goto(f"{pages}/runs/flow-run/{run['id']}")
        page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).last.click()
        save(page, PICTURES / "server-run.png")
        page.goto(f"{pages}/artifacts/artifact/{artifact['id']}")
        save(page, PICTURES / "server-artifact.png")
        browser.close()


if __name__ == "__main__":
    main()
