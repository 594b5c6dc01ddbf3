"""Shards of a published version taken over into a new one, where the same pictures make the same samples.

What is copied is the samples' encoded bytes: only the label at an object's beginning, and the numbers of the slots, are
those of the new plan. The result is byte for byte what building the shard anew would store.
"""

import hashlib
from collections.abc import Mapping

from storage.manifest import DatasetPlan, ObjectInfo, Receipt, read_manifest, receipt_bytes, receipt_key
from storage.publish import finished_shards, put_unpublished
from storage.shards import LABEL_BYTES, label
from storage.store import Bytes, DamagedObject, MissingObject, Store


def may_reuse(old: DatasetPlan, new: DatasetPlan) -> bool:
    """Whether equal pictures give equal samples in both plans: all but the sources and their number is the same."""
    apart = {"sources", "n_slots"}
    return old.model_dump(exclude=apart) == new.model_dump(exclude=apart)


def take_over(old: Store, new: Store, plan: DatasetPlan, same: Mapping[int, int]) -> list[int]:
    """Copy shards of the published version `old` into `new`, whose plan is `plan`; the new shards that were made.

    `same` gives, for a shard of the new plan, the shard of the old one that was made of the same pictures in the same
    order. A damaged or missing shard is left out: it is to be built. Raises ValueError unless :func:`may_reuse`, and
    PublishedMeanwhile on an object store where another builder was faster.
    """
    published = read_manifest(old).plan
    if not may_reuse(published, plan):
        raise ValueError(
            f"{old} was made by another config, recipe, model or schema than {plan.version}: its samples cannot be reused"
        )
    receipts = finished_shards(old, published)
    made = []
    for shard, before in sorted(same.items()):
        if before not in receipts:
            continue
        try:
            _copy_shard(old, receipts[before], new, plan, shard)
        except (MissingObject, DamagedObject):
            continue
        made.append(shard)
    return made


def _copy_shard(old: Store, receipt: Receipt, new: Store, plan: DatasetPlan, shard: int) -> None:
    slots, fingerprint = plan.slots(shard), plan.fingerprint
    shift = slots.start - receipt.first
    if receipt.stop + shift != slots.stop:
        raise ValueError(
            f"shard {receipt.shard} has {receipt.stop - receipt.first} slots where shard {shard} of the new plan has "
            f"{len(slots)}: they are not made of the same pictures"
        )
    objects = []
    for (name, format), info in zip(plan.shard_formats(), receipt.objects, strict=True):
        data = old.get(info.key)
        if hashlib.sha256(data).hexdigest() != info.sha256:
            raise DamagedObject(info.key, "is not what the shard's receipt says")
        parts: list[Bytes] = [label(fingerprint, name, shard), memoryview(data)[LABEL_BYTES:]]
        objects.append(ObjectInfo.of(f"{name}/{format.key(shard)}", parts, first=slots.start, stop=slots.stop))
        put_unpublished(new, plan, objects[-1], parts)
    moved = receipt.model_copy(
        update={
            "fingerprint": fingerprint,
            "shard": shard,
            "first": slots.start,
            "stop": slots.stop,
            "objects": tuple(objects),
            "rejected": tuple(hole.model_copy(update={"index": hole.index + shift}) for hole in receipt.rejected),
        }
    )
    data = receipt_bytes(moved)
    put_unpublished(new, plan, ObjectInfo.of(receipt_key(shard), [data]), data)
