"""Progress of a run: updates, their rate, when it ends, the last accuracy."""

import time
from typing import Any

import jax
from tqdm import tqdm


class Progress:
    """A bar of `steps` updates of which `done` are there already; of several processes the first shows it."""

    def __init__(self, steps: int, done: int, name: str):
        self._steps, self._first, self._start = steps, done, None
        self._bar = tqdm(
            total=steps, initial=done, desc=name, unit="update", dynamic_ncols=True, leave=False,
            disable=jax.process_index() > 0,
        )  # fmt: skip

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def show(self, done: int, rows: list[dict[str, Any]]) -> None:
        """`done` updates are there; the first one, which compiles, does not count for the rate."""
        now = time.time()
        if self._start is None:
            self._start, self._first = now, done
        accuracy = rows[-1].get("accuracy") if rows else None
        words = [] if accuracy in (None, "") else [f"accuracy {accuracy:.3f}"]
        if done > self._first:
            left = (now - self._start) / (done - self._first) * (self._steps - done)
            words.append(f"ends {time.strftime('%d %b %H:%M', time.localtime(now + left))}")
        self._bar.set_postfix_str(", ".join(words), refresh=False)
        self._bar.update(done - self._bar.n)
