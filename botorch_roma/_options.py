"""Options that several commands of ``botorch-roma`` have, and what messages call them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

Num = Annotated[int, typer.Option(help="Number of designs to propose.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of both stages.", min=0)]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing output.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data (default: $BOTORCH_ROMA_DATA, ~/.cache/botorch_roma)."),
]
Seeds = Annotated[int, typer.Option(help="Number of seeds.", min=1)]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Method or family (trivial, roma, baseline, ablation, all); may be repeated. By "
        "default trivial and roma.",
    ),
]
Positions = Annotated[
    int,
    typer.Option(help="Also score so many batches on the way; asks the oracle for them.", min=0),
]
NumEach = Annotated[int, typer.Option(help="Number of candidates of each run.", min=1)]
Workers = Annotated[int, typer.Option(help="Processes, one thread each; 0 for all cores.", min=0)]
BatchSeeds = Annotated[
    int,
    typer.Option(help="Seeds that RoMA runs in one computation; 0: seeds / workers.", min=0),
]
LauncherName = Annotated[
    str, typer.Option("--launcher", help="processes (of this machine), or ray (a cluster).")
]
PresetName = Annotated[str, typer.Option(help="default, fast, selected, paper or author_code.")]

#: Arguments of the package that have another name on the command line.
OPTION_OF: dict[str, str] = {
    "q": "--num",
    "timeout_sec": "--timeout",
    "fixed_features": "--fix",
    "sequences": "--sequence",
    "categories": "--category",
    "methods": "--method",
    "num_seeds": "--seeds",
}


def with_options(message: str) -> str:
    """A message of the package in the words of the command line: `--num` for `q`."""
    names = "|".join(OPTION_OF)
    return re.sub(rf"`({names})\b(?=[`\[])", lambda match: f"`{OPTION_OF[match[1]]}", message)
