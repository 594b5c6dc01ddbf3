"""The loader takes views as it takes data sets."""

import pytest

from storage.views import concatenate, mix, select
from train.loader import make_loader


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("loader"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_a_view_visits_each_of_its_samples_once(faces, workers):
    view = select(concatenate([faces, faces]), [0, 4, 5, 13, 19])
    loader = make_loader(view, batch_size=2, workers=workers, targets=["image", "source_id"])
    seen = [name for batch in loader for name in batch["source_id"]]
    assert sorted(seen) == sorted(view.read(range(5), ["source_id"])["source_id"].tolist())


def test_a_loader_goes_on_with_the_same_view_and_refuses_another(faces):
    view = mix([(faces, 2), (select(faces, [0, 1]), 1)], seed=4)
    state = make_loader(view, batch_size=2).state_dict()
    make_loader(mix([(faces, 2), (select(faces, [0, 1]), 1)], seed=4), batch_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match="belongs to the data set"):
        make_loader(mix([(faces, 2), (select(faces, [0, 1]), 1)], seed=5), batch_size=2).load_state_dict(state)
