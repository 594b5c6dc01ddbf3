"""The data card of a version: what it holds, from what, on whose terms, and how good it is, as HTML and Markdown.

Bytes depend on what is stored alone: no clock, host or path. All that came from outside is escaped.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from storage.card.facts import facts_of
from storage.card.markdown import markdown_card
from storage.card.page import card_page
from storage.card.shown_samples import SampleLayers, encode_webp, spread_over
from storage.dataset import ShardedDataset

CARD_PAGE_KEY, CARD_TEXT_KEY = "card.html", "card.md"
CARD_KEYS = (CARD_PAGE_KEY, CARD_TEXT_KEY)

SHOWN = 48
"""Samples in the page, spread evenly over the data set."""
_SIDE = 256
_THREADS = 4
_SHEET_WIDTH = 1600


def card_objects(dataset: ShardedDataset, contact_sheet: UInt8[np.ndarray, "h w 3"]) -> dict[str, bytes]:
    """The objects of :data:`CARD_KEYS`; the contact sheet is shown in the page too."""
    layers = SampleLayers(dataset, side=_SIDE)
    samples = layers.inline(spread_over(len(dataset), SHOWN), threads=_THREADS)
    facts = facts_of(dataset, inside_picture=[sample["inside"] for sample in samples if "inside" in sample])
    sheet = encode_webp(_smaller(contact_sheet))
    return {
        CARD_PAGE_KEY: card_page(facts, samples, contact_sheet_webp=sheet).encode(),
        CARD_TEXT_KEY: markdown_card(facts).encode(),
    }


def _smaller(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    factor = min(1.0, _SHEET_WIDTH / picture.shape[1])
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
