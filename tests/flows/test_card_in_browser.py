"""The data card's page in a real browser without a window: Debian's chromium, driven by playwright.

Deselected unless asked for; docs/data-card.md says how.
"""

import threading
import time

import numpy as np
import pytest
import uvicorn

from flows.browse import browse_app, listening
from storage.card import CARD_PAGE_KEY, card_objects

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
SHEET = np.full((20, 40, 3), 200, np.uint8)
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "'\"><svg/onload=alert(1)>",
    "javascript:alert(1)",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    names = [*small_faces.NAMES, *(f"AFW/AFW_{n}_1_0" for n in range(100, 150))]
    return small_faces.build(tmp_path_factory.mktemp("page"), names=names, shard_size=16)


@pytest.fixture(scope="module")
def card_address(faces, tmp_path_factory):
    return _card(faces, tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def live_address(faces):
    bound = listening(0)
    server = uvicorn.Server(uvicorn.Config(browse_app(faces), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=10)
    bound.close()


@pytest.fixture(params=["card", "live"])
def address(request, card_address, live_address):
    return {"card": card_address, "live": live_address}[request.param]


@pytest.fixture
def opened(chromium):
    """opens(address, viewport) -> page; what it asked for and complained of is in page.asked and page.complaints."""
    contexts = []

    def opens(address, viewport=DESKTOP, **options):
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        page.wait_for_selector(".tile")
        return page

    yield opens
    for context in contexts:
        context.close()


def _card(dataset, folder) -> str:
    path = folder / "card.html"
    path.write_bytes(card_objects(dataset, SHEET)[CARD_PAGE_KEY])
    return path.as_uri()


def numbers(page, what: str) -> list[float]:
    """A number from the caption of every tile, in the order of the page; those without it are left out."""
    page.locator("#more").evaluate_all("buttons => buttons.forEach(b => { while (!b.hidden) b.click(); })")
    texts = page.locator(".tile .caption span:first-of-type").all_inner_texts()
    found = []
    for text in texts:
        for part in text.replace("−", "-").split(" · "):
            if what == "yaw" and part.startswith("yaw"):
                found.append(float(part[4:-1]))
            if what == "residual" and part.endswith(" px"):
                found.append(float(part[:-3]))
    return found


def test_the_card_opens_without_a_network_and_without_complaint(opened, card_address):
    page = opened(card_address)
    for name in ("map", "field"):
        page.get_by_label({"map": "map coverage"}.get(name, name)).check()
    page.wait_for_function("[...document.images].slice(0, 6).every(i => i.complete && i.naturalWidth > 0)")
    assert [url for url in page.asked if not url.startswith("data:")] == [card_address]
    assert page.complaints == []
    assert page.locator(".tile").count() == 48


def test_filters_leave_what_they_say_and_count_it(opened, address):
    page = opened(address)
    page.locator("#yaw-from").fill("20")
    page.locator("#yaw-to").fill("50")
    yaws = numbers(page, "yaw")
    assert yaws
    assert all(20 <= yaw <= 50 for yaw in yaws)
    page.locator("#yaw-from").fill("")
    page.locator("#yaw-to").fill("")
    page.locator("#source").fill("lfpw")
    assert 1 <= page.locator(".tile").count() <= 3
    assert "lfpw" in page.locator(".tile").first.get_attribute("title").lower()
    page.locator("#source").fill("nobody at all")
    assert page.locator(".tile").count() == 0
    assert page.locator("#count").inner_text().startswith("None of")
    page.locator("#source").fill("")
    page.locator("#residual-to").fill("1")
    residuals = numbers(page, "residual")
    assert residuals
    assert max(residuals) <= 1


@pytest.mark.parametrize("what", ["yaw", "residual"])
def test_sorting_goes_both_ways_and_puts_the_unknown_last(opened, address, what):
    page = opened(address)
    page.locator("#sort").select_option(what)
    upward = numbers(page, what)
    assert upward == sorted(upward)
    page.locator("#descending").check()
    assert numbers(page, what) == upward[::-1]
    if what == "residual":
        assert "px" not in page.locator(".tile").last.inner_text()


def test_overlays_are_switched_on_and_off(opened, address):
    page = opened(address)
    first = page.locator(".tile").first
    first.locator(".landmarks").wait_for(state="visible")
    page.get_by_label("landmarks").uncheck()
    assert not first.locator(".landmarks").is_visible()
    assert first.locator(".map").count() == 0
    page.get_by_label("map coverage").check()
    first.locator(".map").wait_for(state="visible")
    page.get_by_label("map coverage").uncheck()
    assert not first.locator(".map").is_visible()


def test_landmarks_lie_on_the_picture_where_they_were_stored(opened, address, faces):
    page = opened(address)
    page.locator(".tile").first.locator(".landmarks circle").first.wait_for()
    seen = page.evaluate("""() => {
        const box = document.querySelector(".layers"), picture = box.querySelector("img").getBoundingClientRect();
        return [...box.querySelectorAll("circle")].map((circle) => {
            const at = circle.getBoundingClientRect();
            const x = (at.left + at.right) / 2 - picture.left, y = (at.top + at.bottom) / 2 - picture.top;
            return [x / picture.width, y / picture.height];
        });
    }""")
    assert np.allclose(seen, (faces[0]["landmarks_px"][:, :2] + 0.5) / 32, atol=0.01)


def test_the_keyboard_reaches_everything(opened, address):
    page = opened(address)
    page.locator("body").press("/")
    assert page.evaluate("document.activeElement.id") == "source"
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("[...document.querySelectorAll('.tile')].indexOf(document.activeElement)") == 1
    page.keyboard.press("Enter")
    title = page.locator("#large-title")
    second = title.inner_text()
    page.keyboard.press("ArrowRight")
    assert title.inner_text() != second
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == second
    page.keyboard.press("m")
    page.locator("#large .map").wait_for(state="visible")
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    assert page.evaluate("[...document.querySelectorAll('.tile')].indexOf(document.activeElement)") == 1
    page.locator("#source").fill("m")
    assert page.get_by_label("map coverage").is_checked()  # a letter that is typed is no key


def test_it_works_on_a_phone(opened, address):
    page = opened(address, PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for selector in ("#source", "#sort", ".tile"):
        box = page.locator(selector).first.bounding_box()
        assert box["height"] >= 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    page.locator(".tile").nth(2).tap()
    page.locator("#large").wait_for(state="visible")
    box = page.locator("#large").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    page.get_by_label("field").tap()  # the switches are within reach there too
    page.locator("#large .field").wait_for(state="visible")
    page.locator("#after").tap()
    page.locator("#close").tap()
    assert page.locator("#controls #overlays").is_visible()
    assert not page.locator("#large").is_visible()
    assert page.complaints == []


def test_hostile_names_are_shown_and_do_nothing(opened, small_faces, tmp_path):
    page = opened(_card(small_faces.build(tmp_path, names=HOSTILE), tmp_path))
    assert [page.locator(".tile").nth(n).get_attribute("title") for n in range(4)] == HOSTILE
    page.locator(".tile").first.click()
    assert page.locator("#large-title").inner_text() == HOSTILE[0]
    page.wait_for_timeout(200)
    assert page.complaints == []


def test_serving_reads_what_is_seen_and_opens_any_number(opened, live_address, faces):
    page = opened(live_address)
    page.locator(".tile img").first.wait_for()
    page.wait_for_load_state("networkidle")
    pictures = [url for url in page.asked if url.endswith("/image.webp")]
    assert 0 < len(pictures) < len(faces)
    assert not [url for url in page.asked if url.endswith(("map.webp", "field.webp"))]
    page.locator("#number").fill("57")
    page.get_by_role("button", name="Open").click()
    page.locator("#large").wait_for(state="visible")
    assert page.locator("#large-title").inner_text() == faces[57]["source_id"]
    assert page.complaints == []
