"""The ways a build ends early, light enough for the command line to know them without loading anything else."""


class TooManyBad(RuntimeError):
    """More samples had to be rejected than the build was told to bear."""


class SourceChanged(RuntimeError):
    """A source file is not the one that was planned with."""


class WorkerDied(RuntimeError):
    """A worker process ended without an answer."""


class ShardsDamaged(RuntimeError):
    """Finished shards were found damaged on disk before publishing; they have been forgotten and can be made again."""


class OtherVersions(RuntimeError):
    """A worker on another machine has other versions of what decides the bytes."""


class NoServer(RuntimeError):
    """No Prefect server answers, or it does not let us in."""


class NotDeployed(RuntimeError):
    """A deployment did not arrive at the server as its file says."""


class WrongConfig(ValueError):
    """A config file says what cannot be meant."""
