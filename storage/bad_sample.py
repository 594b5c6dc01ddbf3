"""A sample that cannot be used: as an exception where it is noticed, as a value where it is counted."""

from dataclasses import dataclass


class BadSample(Exception):
    """One sample is unusable; the others are not concerned.

    `code` is a short name for counting ("mat.truncated", "image.size"); `sentence` says what, which value, and what to
    do.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)  # both, so that the exception survives pickling between workers
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence} [{self.code}]"

    def about(self, what: object) -> "BadSample":
        """The same with the file's or sample's name in front."""
        return BadSample(self.code, f"{what}: {self.sentence}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A sample that was left out, and why: kept, counted and listed in the manifest."""

    source_id: str
    code: str
    reason: str

    @classmethod
    def because(cls, source_id: str, bad: BadSample) -> "Rejected":
        """The value that a builder keeps of a :class:`BadSample`."""
        return cls(source_id, bad.code, bad.sentence)
