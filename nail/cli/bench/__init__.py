"""`nail bench`: how fast a step, a sweep and a simulation are, beside what the machine can do."""

from pathlib import Path
from typing import Any

import pandas as pd

from nail.sweep.store import to_csv, write_text


def tell(rows: list[dict[str, Any]], origin: dict[str, str], out: Path | None) -> None:
    """Print what was measured, a line each number and a column each row, and write it to `out` as CSV with its
    provenance `origin`."""
    print(f"on {origin['device']}")
    print(pd.DataFrame(rows).T.to_string(header=False, float_format="{:,.4g}".format))
    if out is not None:
        write_text(Path(out), to_csv([{**row, **origin} for row in rows]))
