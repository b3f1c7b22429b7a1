"""What every command that answers in JSON shares: the option, and how an answer is written."""

from __future__ import annotations

import json
import math
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def print_json(values: dict[str, Any]) -> None:
    """One object, one line; what is not finite is null."""
    click.echo(json.dumps(finite(values), ensure_ascii=True))


def finite(value: Any) -> Any:
    """NaN and infinity, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
