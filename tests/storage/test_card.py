"""The data card: what it says is true, the same bytes every time, and nothing that a stranger named can act in it."""

import base64
import hashlib
import html.parser
import json
import re

import cv2
import numpy as np
import pytest

from storage.card import CARD_PAGE_KEY, CARD_TEXT_KEY, card_objects
from storage.card.facts import consent_note, facts_of
from storage.card.page import live_page, script_data
from storage.card.shown_samples import SampleLayers, rows, spread_over
from storage.drawn_folder import DRAWN_LICENCE, licence_of
from storage.manifest import SourceInfo
from storage.sample_index import sample_index

HOSTILE = [
    "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "a'\"><b>", "{{script}}",
    "| a | `b` | [c](javascript:1)", "\u202eevil\u2028line", "<!--", "]]>&lt;",
]  # fmt: skip
SHEET = np.full((20, 40, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("card"), holes=(4, 6), reason="one | <b>two</b>")


@pytest.fixture(scope="module")
def hostile(small_faces, tmp_path_factory):
    source = SourceInfo(
        kind="<svg onload=alert(1)>", n_files=1, fingerprint="cd" * 32, licence="</p><script>alert(2)</script>",
        details={"note": "\"'><script>"},
    )  # fmt: skip
    return small_faces.build(
        tmp_path_factory.mktemp("card"), dataset="hostile", names=HOSTILE, source=source, holes=(0,), reason=HOSTILE[1]
    )


class Page(html.parser.HTMLParser):
    """Tags, attributes, texts and the two scripts, as a parser that knows nothing of us sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.content.setdefault(self._open[-1], []).append(data)

    @property
    def data(self) -> dict:
        return json.loads(self.content["script"][0])


def page_of(dataset) -> Page:
    return Page(card_objects(dataset, SHEET)[CARD_PAGE_KEY].decode())


def test_the_card_is_the_same_every_time_and_tells_of_no_machine(faces, monkeypatch):
    once = card_objects(faces, SHEET)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert card_objects(faces, SHEET) == once
    for content in once.values():
        assert str(faces.path).encode() not in content
        assert b"/tmp/" not in content


def test_the_page_holds_everything_it_shows(faces):
    page = page_of(faces)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert not re.search(r"url\(|@import", "".join(page.content["style"]))


def test_the_policy_names_the_script_and_the_style_that_are_there(faces):
    page = page_of(faces)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    for kind, text in (("script-src", page.content["script"][1]), ("style-src", page.content["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not [a for _, a in page.tags if "style" in a or any(name.startswith("on") for name in a)]


def test_hostile_names_are_texts_and_no_more(hostile, faces):
    def kinds(page: Page) -> set[str]:
        return {tag for tag, _ in page.tags}

    page = page_of(hostile)
    assert kinds(page) - {"br"} == kinds(page_of(faces))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert [row["id"] for row in page.data["rows"]] == HOSTILE[1:]
    text = card_objects(hostile, SHEET)[CARD_TEXT_KEY].decode()
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"(?<!\\)<", outside_code)
    assert "](javascript" not in text


def test_rows_of_a_markdown_table_have_its_number_of_cells(hostile):
    text = card_objects(hostile, SHEET)[CARD_TEXT_KEY].decode()
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    tables = text.count("---|")
    assert tables > 0
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert sum(len(block.splitlines()) for block in blocks) == len(cells)


def test_data_in_a_page_comes_back_and_cannot_end_the_script():
    for text in HOSTILE:
        written = script_data({text: [text]})
        assert json.loads(written) == {text: [text]}
        assert not set(written) & set("<>&\u2028\u2029")


def test_the_facts_are_those_of_the_stored_samples(faces):
    facts = facts_of(faces)
    yaws = np.degrees(faces.read(range(len(faces)), ["pose"])["pose"][:, 1])
    yaw = next(one for one in facts.histograms if one.title == "yaw")
    for low, high, count in yaw.bars:
        assert count == ((yaws >= low) & (yaws < high)).sum()
    assert sum(yaw.counts) == len(faces) == facts.n_samples
    assert facts.rejects == (("toy.hole", 2, "HELEN/HELEN_3057639344_1_0", "one | <b>two</b>"),)
    covered = faces.table("atlas_covered").mean()
    assert f"{covered:.1%} of 32 × 32" in dict(facts.coverage)["texels of the map that a triangle covers"]
    stored = {target.name: target for target in facts.targets}
    assert stored["position_map"].precision == "± 0.0078125 px"
    assert "lossless" in stored["image"].precision
    identity = faces.read(range(len(faces)), ["identity"])["identity"] / faces.model().identity_stddevs
    spread = next(one for one in facts.spreads if one.title == "identity")
    assert np.allclose(spread.stddevs, identity.std(axis=0)[:20])
    assert spread.n_distinct == len(faces)


def test_the_columns_of_some_targets_are_those_of_the_whole_index(faces):
    whole, some = sample_index(faces), sample_index(faces, of=("pose", "source_id"))
    assert set(some) == {"index", "pitch_deg", "yaw_deg", "roll_deg", "source_id", "photograph"}
    for name, column in some.items():
        np.testing.assert_array_equal(column, whole[name])


def test_lossy_pictures_are_not_called_lossless(faces):
    from storage.byte_codes import Jpeg
    from storage.card.facts import _precision

    lossless = faces.schema["image"]
    assert "lossless" in _precision(lossless)
    jpeg = lossless.model_copy(update={"code": Jpeg(quality=93, size_hw=(32, 32))})
    assert _precision(jpeg) == "JPEG of quality 93, lossy"
    stated = faces.schema["pose"].model_copy(update={"precision": 0.25, "unit": "mm"})
    assert _precision(stated) == "± 0.25 mm"


def test_licence_and_consent_are_told_of_every_source(faces, small_faces, tmp_path):
    text = card_objects(faces, SHEET)[CARD_TEXT_KEY].decode()
    assert "toy terms" in text
    assert "Nothing records that the people" in text
    unknown = small_faces.build(tmp_path, source=SourceInfo(kind="photographs", n_files=1, fingerprint="ef" * 32))
    text = card_objects(unknown, SHEET)[CARD_TEXT_KEY].decode()
    assert "not stated" in text
    assert "without their consent" in text


def test_of_invented_people_nobody_is_said_to_have_been_photographed():
    people = SourceInfo(kind="300w-lp", n_files=1, fingerprint="ef" * 32, licence=DRAWN_LICENCE, details={"people": {}})
    assert consent_note(people) == "The people are invented and nobody had to be asked."
    turned = people.model_copy(update={"details": {"fits": {"licence": DRAWN_LICENCE}}})
    assert consent_note(turned).startswith("The people are invented")


def test_the_real_photograph_of_a_sample_has_terms_of_its_own(tmp_path):
    assert licence_of(tmp_path) == "the source's own terms apply"
    (tmp_path / "people.json").write_text('{"model_fingerprint": "ab"}')
    assert licence_of(tmp_path) == DRAWN_LICENCE
    (tmp_path / "sample.json").write_text('{"seed": 0, "photograph": true}')
    assert licence_of(tmp_path) == f"{DRAWN_LICENCE}; AFW/astronaut_0 and its mirror image: NASA, public domain"


def test_a_large_data_set_is_counted_and_shown_by_a_spread_of_bounded_size():
    spread = spread_over(10_000_000, 16384)
    assert (spread[0], spread[-1], len(spread)) == (0, 9_999_999, 16384)
    assert spread_over(5, 48) == [0, 1, 2, 3, 4]
    assert spread_over(0, 48) == []


def test_overlays_lie_where_the_map_puts_the_face(faces):
    layers = SampleLayers(faces, side=256)
    assert layers.overlays == ["map", "field"]
    for name in layers.overlays:
        drawn = cv2.imdecode(np.frombuffer(layers.overlay(4, name), np.uint8), cv2.IMREAD_UNCHANGED)
        opaque = drawn[..., 3] > 80
        sample = faces[4]
        xy = sample["position_map"][sample["covered"]][:, :2]
        rows_, columns = np.nonzero(opaque)
        assert abs(columns.min() - xy[:, 0].min()) < 2.5
        assert abs(columns.max() - xy[:, 0].max()) < 2.5
        assert abs(rows_.min() - xy[:, 1].min()) < 2.5
        assert abs(rows_.max() - xy[:, 1].max()) < 2.5
    with pytest.raises(KeyError, match="no overlay 'parts'"):
        layers.overlay(0, "parts")


def test_only_what_is_shown_is_read(faces, monkeypatch):
    asked: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
    read = type(faces).read

    def recorded(self, indices, targets=None):
        asked.append((tuple(np.asarray(indices).tolist()), tuple(targets or ())))
        return read(self, indices, targets)

    monkeypatch.setattr(type(faces), "read", recorded)
    layers = SampleLayers(faces, side=64)
    layers.picture(3)
    assert asked == [((3,), ("image",))]
    asked.clear()
    list(rows(faces, np.arange(len(faces))))
    assert not {"image", "position_map"} & {name for _, names in asked for name in names}


def test_the_live_page_may_ask_its_own_server_alone(faces):
    page = Page(live_page(facts_of(faces), list(rows(faces, np.array([0, 5]))), ["landmarks"]))
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    assert "connect-src 'self'" in policy
    assert "img-src 'self' data:" in policy
    assert [row["n"] for row in page.data["rows"]] == [0, 5]
    assert "image" not in page.data["rows"][0]
