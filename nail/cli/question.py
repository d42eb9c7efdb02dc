"""What a command that asks for one number has in common: options that are checked, a table or JSON that is printed."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from nail.theory.ranges import require_ranges


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for, with its options; `answer` computes it and `run` prints it."""

    json: bool = False
    """one JSON object instead of a table"""

    name: ClassVar[str]
    meaning: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]

    def inputs(self) -> dict[str, Any]:
        """The options as they were given, by name."""
        return {field: value for field, value in dataclasses.asdict(self).items() if field != "json"}

    def answer(self) -> dict[str, Any]:
        """At least `value`; numbers that are not finite are not allowed here, None stands for them."""
        raise NotImplementedError

    def run(self) -> None:
        """Check the options (raises `BadInput` naming the first bad one), compute, print."""
        require_ranges(vars(self))
        inputs, found = self.inputs(), self.answer()
        if self.json:
            print(json.dumps({"quantity": self.name, "inputs": inputs, **found}, allow_nan=False, ensure_ascii=False))
            return
        print(self.meaning)
        for field, value in {**inputs, **found, "formula": self.formula, "source": self.source}.items():
            print(f"  {field.replace('_', ' '):<15} {readable(value)}")


def readable(value: Any) -> str:
    """A number, an interval or a word for a table; None is a dash."""
    if isinstance(value, (list, tuple)):
        low, high = (readable(end) if end is not None else "∞" for end in value)
        return f"[{low}, {high}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**16 else f"{value:.10g}"
    if isinstance(value, float):
        return f"{value:.10g}"
    return "–" if value is None else str(value)
