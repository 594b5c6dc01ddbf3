"""Who a training learns from and whom it is validated on: nobody is on both sides."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from storage.dataset import ShardedDataset
from storage.source_groups import place_of_group
from storage.views import groups_of, select


@dataclass(frozen=True, slots=True)
class LearningSplit:
    """What is learnt from, what validates it (None: nothing does), and how that was chosen, in words."""

    training: ShardedDataset
    validation: ShardedDataset | None
    described: str

    @property
    def counted(self) -> str:
        """How many samples there are on each side, for people."""
        held_out = 0 if self.validation is None else len(self.validation)
        return f"{len(self.training)} samples to learn from, {held_out} to validate by"


def learning_split(
    dataset: ShardedDataset, validation: ShardedDataset | None, *, hold_out: float, seed: int
) -> LearningSplit:
    """What is learnt from and what validates: two data sets, or one of which a share of the people is held out.

    `hold_out` is that share, 0 for no validation at all; where nobody is known, photographs are held out. `seed` says
    which. Raises ValueError for data sets that share photographs or people, and where there are too few to hold any out.
    """
    if validation is not None:
        _refuse_shared_photographs(dataset, validation)
        return LearningSplit(
            dataset, validation, f"the data set {validation.manifest.name} {validation.manifest.version}"
        )
    if not 0 <= hold_out < 1:
        raise ValueError(f"the share held out for validation is at least 0 and below 1, not {hold_out}")
    if hold_out == 0:
        return LearningSplit(dataset, None, "none")
    by: Literal["identity", "photograph"] = "identity" if "identity" in dataset.schema.names else "photograph"
    groups = groups_of(dataset, by)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise ValueError(
            f"{dataset.manifest.name} has too few {by} groups to hold {hold_out:g} of them out for validation: name another "
            "data set with --validation, or take --hold-out 0"
        )
    held_out = held_out_groups(sizes, hold_out, seed)
    rows = np.array([group in held_out for group in groups])
    people = "people" if by == "identity" else "photographs"
    described = f"{hold_out:g} of the {people}, split {seed}"
    return LearningSplit(select(dataset, np.flatnonzero(~rows)), select(dataset, np.flatnonzero(rows)), described)


def held_out_groups(sizes: Mapping[str, int], share: float, seed: int) -> Set[str]:
    """The groups that are not learnt from: some, never all, and as nearly that share of the samples as can be.

    Where a group's place and the share decide alone (:func:`storage.views.split`), a data set that grows moves nobody. So it
    is where there are many groups. Of a few the luck of the draw would hold out none of them or most: then those with the
    last places are taken, as many as come nearest to the share.
    """
    by_place = sorted(sizes, key=lambda group: place_of_group(group, seed), reverse=True)
    wanted = share * sum(sizes.values())
    drawn = [group for group in by_place if place_of_group(group, seed) >= 1 - share]
    if len(drawn) < len(by_place) and 0.5 <= sum(sizes[group] for group in drawn) / wanted <= 1.5:
        return set(drawn)
    ends = np.cumsum([sizes[group] for group in by_place[:-1]])
    return set(by_place[: int(np.argmin(np.abs(ends - wanted))) + 1])


def _refuse_shared_photographs(dataset: ShardedDataset, validation: ShardedDataset) -> None:
    from train.training_data import photographs_and_people

    learnt = {key for keys in photographs_and_people(dataset) for key in keys}
    shared = learnt & {key for keys in photographs_and_people(validation) for key in keys}
    if shared:
        raise ValueError(
            f"{len(shared)} photographs or people of {validation.manifest.name} are learnt from too ({min(shared)}, …): it "
            "would measure what was learnt by heart; take a data set of others, or --hold-out"
        )
