"""All rows of the suite, in the order of the table."""

from collections.abc import Iterator

from tests.benchmarks.suite import device, jobs, stages, storing
from tests.benchmarks.suite.material import Material
from tests.benchmarks.suite.rows import Row


def every_row(material: Material, *, gpu: bool) -> Iterator[Row]:
    """One row is made when its turn comes."""
    yield from stages.rows(material)
    yield from storing.rows(material)
    yield from jobs.rows(material)
    if gpu:
        yield from device.rows(material)
