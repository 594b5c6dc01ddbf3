"""What processes share."""

import gc

import pytest

from storage.processes import without_collection


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_goes_on_as_it_was_before(enabled):
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
