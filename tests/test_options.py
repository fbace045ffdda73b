from __future__ import annotations

import pytest
import typer

from botorch_roma._options import OPTION_OF, with_options
from botorch_roma.cli import app


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`q` must be at least 1, received 0.", "`--num` must be at least 1, received 0."),
        ("`fixed_features['a']` must be a number.", "`--fix['a']` must be a number."),
        ("reduce `q`, or raise `timeout_sec`", "reduce `--num`, or raise `--timeout`"),
        ("`q_max`, q and 'sequences' are other names", None),
        ("`seed` has the same name", None),
    ],
)
def test_with_options(message: str, shown: str | None) -> None:
    assert with_options(message) == (shown or message)


def test_all_are_options_of_a_command() -> None:
    commands = typer.main.get_group(app).commands.values()
    options = {name for command in commands for p in command.params for name in p.opts}
    assert set(OPTION_OF.values()) <= options
