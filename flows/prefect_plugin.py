"""Completes `prefect deployment run NAME` to `NAME/default` for this project's flows.

Prefect wants FLOW/DEPLOYMENT and refuses a bare name, so a bare name that is completed here never meant anything else.

Prefect calls the hook while `import prefect` is still going on, in every process that imports it (workers, flow runs,
notebooks): this module stays light, imports no other part of Prefect, and leaves all but the `prefect` command alone.
"""

import sys
from pathlib import PurePath

from prefect.plugins import HookContext, register_hook

from flows import DEPLOYMENT_NAME, FLOW_NAMES


def complete(arguments: list[str]) -> list[str]:
    """The arguments of the `prefect` command with a bare flow name completed; any other line comes back as it was.

    A name counts only where the command expects a deployment and after verbs that destroy nothing: whoever deletes
    a deployment spells its name out.
    """
    match arguments:
        case ["deployment" | "deployments", "run", "--watch", name, *_]:
            place = 3
        case ["deployment" | "deployments", "schedule", "ls" | "pause" | "resume", name, *_]:
            place = 3
        case ["deployment" | "deployments", "run" | "inspect", name, *_]:
            place = 2
        case _:
            return arguments
    if name not in FLOW_NAMES:
        return arguments
    return [*arguments[:place], f"{name}/{DEPLOYMENT_NAME}", *arguments[place + 1 :]]


def is_prefect_command(argv: list[str], original: list[str]) -> bool:
    """Whether `sys.argv` and `sys.orig_argv` are those of `prefect …` or of `python -m prefect …`."""
    if argv[:1] == ["-m"]:  # so argv begins while the package is still being imported
        return original[-len(argv)] == "prefect"  # the module's name stands before its arguments
    return bool(argv) and PurePath(argv[0]).stem == "prefect"


class CompleteDeploymentName:
    """Prefect's start-up hook: rewrites the command line of the `prefect` command before that is parsed."""

    @register_hook
    def setup_environment(self, *, ctx: HookContext) -> None:
        """Complete the name; returns nothing, which tells Prefect that no setting changes."""
        if is_prefect_command(sys.argv, sys.orig_argv):
            sys.argv[1:] = complete(sys.argv[1:])


plugin = CompleteDeploymentName()
