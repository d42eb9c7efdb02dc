"""`load(DIR)`: the policy that a run of a folder ended with, to be played and read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from nail.checks import BadInput, require
from nail.envs.environment import Environment
from nail.policies.policy import Policy
from nail.policies.softmax_table import SoftmaxTable
from nail.sweep.folder import Folder, Seen
from nail.sweep.plan import read_requests
from nail.sweep.starts import known_runs, shapes_of
from nail.sweep.store import Damaged
from nail.training.config import TrainConfig, run_id
from nail.training.evaluate import BATCH
from nail.training.problem import make_environment, make_policy
from nail.training.rollout import rollout

SHOWN = 10
"""runs that a sentence names"""


@dataclass(frozen=True, eq=False, repr=False)
class TrainedPolicy:
    """The greedy policy and the law of a run's student, at its final parameters.

    `prompts` below are contexts of the task, the batch on a leading axis: of a token task an integer array (B, L) of
    tokens in 0..A−1; of a tabular one the chance of an episode, `nail.envs.tabular.Chance(first (B,), bits (B, H))`;
    of a task from outside what its environment takes. `TrainedPolicy.prompts(n)` gives some.
    """

    config: TrainConfig
    params: Any
    """as the run's network has them: of a table logits (H, S, A)"""
    env: Environment
    """the run's environment: its prompts, clean expert and score"""
    policy: Policy
    """the network as pure functions of its parameters"""

    def __repr__(self) -> str:
        about = {name: getattr(self.config, name) for name in ("task", "method", "eta", "seed")}
        return f"TrainedPolicy(run={run_id(self.config)}, {', '.join(f'{name}={v}' for name, v in about.items())})"

    def prompts(self, n: Any = None) -> Any:
        """The first n ≤ `config.n_validation` held-out prompts (None: all): those of the evaluations."""
        most = self.env.n_validation
        n = most if n is None else n
        whole = isinstance(n, int | np.integer) and not isinstance(n, bool)
        require(whole and 1 <= n <= most, "n", n, f"an integer in 1..{most}, the held-out prompts of this run")
        found = jax.jit(jax.vmap(self.env.validation_context))(jnp.arange(n, dtype=jnp.uint32))
        return jax.tree.map(np.asarray, found)

    def __call__(self, prompts: Any) -> Int[np.ndarray, "B H"]:
        """Greedy chains: the most probable action of each step, ties to the lowest, as evaluations play.

        Raises `BadInput` for prompts of another shape than the task's, or with tokens outside 0..A−1.
        """
        return self._batched(self._play, self._checked(prompts))

    def law(self, prompts: Any, chains: Int[np.ndarray, "B H"]) -> Float[np.ndarray, "B H A"]:
        """π_h(·|prompt, a_1..a_{h−1}) of the student at each step h of the chains, at temperature 1.

        Of a tabular task the state at step h is the one that a_1..a_{h−1} lead to. Raises `BadInput` as a call does,
        and for chains that are not actions (B, H).
        """
        prompts, chains = self._checked(prompts), np.asarray(chains)
        shape = (len(jax.tree.leaves(prompts)[0]), self.env.horizon)
        _require_actions("chains", chains, shape, self.env.n_actions)
        return self._batched(self._laws, (prompts, chains))

    @property
    def table(self) -> Float[np.ndarray, "H S A"] | None:
        """π_h(·|s) of all states, of a student that is a table; None of a network."""
        return np.asarray(jax.nn.softmax(self.params)) if isinstance(self.policy, SoftmaxTable) else None

    @cached_property
    def _play(self) -> Callable:
        parallel = self.config.decode == "parallel"
        return jax.jit(lambda params, given: rollout(self.env, self.policy, params, given, parallel=parallel).actions)

    @cached_property
    def _laws(self) -> Callable:
        def laws(params, given):
            prompts, chains = given
            seen = jax.vmap(self.env.observations)(prompts, chains)
            return jax.nn.softmax(self.policy.forward(params, prompts, seen)[0])

        return jax.jit(laws)

    def _batched(self, compute: Callable, given: Any) -> np.ndarray:
        """`compute` on batches of the size that an evaluation has, the last one filled up with its last element."""
        n = len(jax.tree.leaves(given)[0])
        size = min(n, BATCH)
        parts = [np.minimum(np.arange(start, start + size), n - 1) for start in range(0, n, size)]
        found = [compute(self.params, jax.tree.map(lambda x, at=at: x[at], given)) for at in parts]
        return np.concatenate([np.asarray(part) for part in found])[:n]

    def _checked(self, prompts: Any) -> Any:
        like = jax.eval_shape(self.env.validation_context, jax.ShapeDtypeStruct((), jnp.uint32))
        if hasattr(self.env, "prompt_length"):
            prompts = np.asarray(prompts)
            _require_actions("prompts", prompts, (len(prompts) if prompts.ndim else 0, *like.shape), self.env.n_actions)
            return prompts.astype(like.dtype)
        same = jax.tree.structure(prompts) == jax.tree.structure(like)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(prompts)]
        sizes = {leaf.shape[:1] for leaf in leaves}
        wanted = [leaf.shape for leaf in jax.tree.leaves(like)]
        fits = same and len(sizes) == 1 and sizes != {(0,)} and [leaf.shape[1:] for leaf in leaves] == wanted
        require(
            fits, "prompts", type(prompts).__name__, "contexts of the task, as `prompts(n)` of the policy gives them"
        )
        return jax.tree.map(np.asarray, prompts)


def _require_actions(name: str, found: np.ndarray, shape: tuple[int, ...], n_actions: int) -> None:
    """`BadInput` unless these are tokens in 0..A−1, one row an episode or more."""
    wanted = f"({', '.join(['B', *map(str, shape[1:])])})"
    require(found.shape == shape and len(found), name, f"{found.shape}", f"an array of shape {wanted}, B ≥ 1")
    require(np.issubdtype(found.dtype, np.integer), name, f"numbers of type {found.dtype}", "integers")
    inside = (found >= 0) & (found < n_actions)
    require(inside.all(), name, found[~inside][:1], f"tokens in 0..{n_actions - 1}")


def load(out: Path | str, run: str | None = None, *, any_revision: bool = False) -> TrainedPolicy:
    """The policy that a finished run of the folder `out` ended with; `run` is its id (column run of `nail.read_rows`),
    and can be left out where one run of the folder has parameters.

    Parameters are kept by `nail train`, by `nail sweep grid --keep-params`, and by `nail.run(…, keep_params=True)`.

        >>> base = TrainConfig(task="poison-chain", A=3, H=3, batch=8, steps=20, eval_every=10, n_validation=4)
        >>> rows = nail.run(base, "out/example", keep_params=True)
        >>> policy = nail.load("out/example")
        >>> policy(policy.prompts()).shape, policy.table.shape
        ((1, 3), (3, 2, 3))

    `any_revision`: also of runs that another revision of the source computed; what they played then can differ from
    what this revision plays. Raises `BadInput` if there is no such run, if several are left to choose among, and if the
    run is not finished or its parameters were not kept.
    """
    out = Path(out)
    require(out.is_dir(), "out", out, "a folder of runs")
    there = Folder.read(out)
    lots = [seen for seen in there.lots if not seen.lot.figure and (any_revision or seen.lot.source == there.source)]
    ids = dict.fromkeys(name for seen in lots for name in seen.lot.ids)
    if run is not None and run not in ids:
        others = any(run in seen.lot.runs for seen in there.lots)
        why = "another revision of the source computed it (any_revision=True takes it)" if others else "it holds none"
        raise BadInput(f"run must be one that {out} holds of this revision, got {run}: {why}")
    kept = {name: seen for seen in lots for name in _kept(seen) if run in (None, name)}
    if not kept:
        what = "parameters" if run is None else f"final parameters of the run {run}"
        raise BadInput(
            f"{out} holds no {what}{_of_others(there, any_revision)}: nail train keeps them, nail sweep grid "
            "--keep-params and nail.run(…, keep_params=True) do too, and compute runs again that are there without them"
        )
    known = known_runs(there, read_requests(out)[0])
    if len(kept) > 1:
        raise BadInput(f"run must be one of the {len(kept)} in {out} with parameters: {_named(kept, known)}")
    name, seen = next(iter(kept.items()))
    return _loaded(seen, name, known)


def _kept(seen: Seen) -> list[str]:
    """Runs of a lot that are done, if its final parameters are there."""
    return list(seen.rows) if seen.has_params else []


def _of_others(there: Folder, any_revision: bool) -> str:
    others = not any_revision and any(_kept(seen) for seen in there.lots if seen.lot.source != there.source)
    return " of this revision of the source (any_revision=True takes those of others)" if others else ""


def _named(kept: dict[str, Seen], known: dict[str, TrainConfig]) -> str:
    """Runs with the fields in which they differ."""
    fields = {run: seen.lot.runs[run] for run, seen in kept.items()}
    names = dict.fromkeys(name for each in fields.values() for name in each)
    differ = [name for name in names if len({str(each.get(name)) for each in fields.values()}) > 1]
    shown = [
        " ".join([run, f"({', '.join(f'{name}={each.get(name)}' for name in differ)})"])
        for run, each in list(fields.items())[:SHOWN]
    ]
    return ", ".join(shown) + (", …" if len(fields) > SHOWN else "")


def _loaded(seen: Seen, run: str, known: dict[str, TrainConfig]) -> TrainedPolicy:
    if run not in known:
        raise BadInput(
            f"run must be one whose method, task and noise are known here, and those of {run} are not: import the "
            "module that defines them (or the revision of the source that computed it)"
        )
    config = known[run]
    try:
        params = seen.lot.load_params([run], shapes_of(config))[run]
    except Damaged as damage:
        raise BadInput(f"the parameters of the run {run} cannot be read ({damage})") from damage
    env = make_environment(config)
    return TrainedPolicy(config, params, env, make_policy(config, env))
