"""``waybill check``: everything wrong with the configuration, at once."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="A waybill.yaml, checked with the consumers' files it names, or consumers' files. "
            "Default: $WAYBILL_CONFIG, else config/waybill.yaml.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The waybill.yaml that is deployed, such as one of a worktree: what the change would lose or repeat "
            "is a finding, other changes of subscriptions are notes.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a consumers' file, for editors, and end.")
    ] = False,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="Leave out what only the workers' machine has: secrets, certificates.")
    ] = False,
) -> None:
    """Check the configuration: file:line:column, what is wrong, what to write instead.

    Exit codes: 0 clean, 1 findings, 2 a file cannot be read.
    """
    from connectors import settings, yaml_source
    from pipelines import config
    from pipelines.cli import against as compared

    if schema:
        typer.echo(json.dumps(config.schema(), indent=2))
        return
    findings = config.findings(
        [yaml_source.read(file) for file in files or [settings.default_path()]], here=not elsewhere
    )
    if against and not findings:
        findings = tuple(compared.findings(files[0] if files else settings.default_path(), against))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(str(finding))
    typer.echo(f"{len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}", err=True)
    raise typer.Exit(1 if findings else 0)
