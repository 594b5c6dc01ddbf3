"""Commands for servers and machines."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import completion
from flows.commands.exit_codes import FAILED
from flows.commands.options import Json, Model, OutUrl, given_model, print_json

app = typer.Typer()


@app.command()
def deploy(
    on: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.switched_flows,
            help="A flow whose schedules and triggers are switched on; may be repeated.",
        ),
    ] = None,
    off: Annotated[
        list[str] | None,
        typer.Option(autocompletion=completion.switched_flows, help="The same, switched off. Others stay as they are."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="A work pool for everything. Default: those of prefect.yaml.")
    ] = None,
    pool_type: Annotated[
        str, typer.Option(help="Of pools that are made because they are missing: process, kubernetes, docker.")
    ] = "process",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="Its tables are the deployments' parameters; `build --config` reads it too."
        ),
    ] = None,
    infra: Annotated[
        Path | None, typer.Option(help="Folder of prefect.yaml and automations.yaml. Default: the checkout's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Deploy every flow to the Prefect server. That of PREFECT_API_URL; again and again, and nothing else is touched.

    \b
    facefoundry deploy
    facefoundry deploy --on rebuild --on verify
    facefoundry deploy --config facefoundry.toml
    """
    from dataclasses import asdict

    from flows.deploy import deploy as deploy_all

    deployed, automations = deploy_all(infra, on=on or (), off=off or (), pool=pool, pool_type=pool_type, config=config)
    if as_json:
        print_json(deployments=[asdict(each) for each in deployed], automations=automations)
        return
    for each in deployed:
        print(f"{each.name}  in {each.pool}")
        for name, active in {**each.schedules, **each.triggers}.items():
            print(f"    {'on ' if active else 'off'}  {name}")
    for name, state in automations.items():
        print(f"automation: {name}  {state}")
    print("workers: prefect worker start --pool " + " | ".join(sorted({each.pool for each in deployed})))


@app.command()
def doctor(
    out: OutUrl = "datasets",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Say what this machine lacks and how to get it. Exit code 1 when something is broken, 0 where it is optional.

    \b
    facefoundry doctor
    facefoundry doctor --model BFM.mat --out s3://faces/datasets
    """
    from dataclasses import asdict

    from flows.doctor import examine

    checks = []
    for check in examine(out=out, model=given_model(model) if model else None):
        checks.append(check)
        if not as_json:
            print(
                f"{check.state:7} {check.name}: {check.found}"
                + (f"\n          → {check.remedy}" if check.remedy else "")
            )
    broken = [check.name for check in checks if check.state == "broken"]
    if as_json:
        print_json(ok=not broken, checks=[asdict(check) for check in checks])
    if broken:
        raise typer.Exit(FAILED)
