"""Which rows of nail/methods.py counts can stand for. Nothing here loads JAX: `nail list` asks."""

from nail.checks import BadInput, require
from nail.methods import METHOD, Method


def check_counted(method: Method) -> None:
    """Raise `BadInput` for what counts cannot stand for: a reward, a loss of its own, a Jensen–Shannon divergence, a β
    other than 0, 1 or None, a support that is not all tokens, a rollout rule, a mixture with a sampled student, a
    reverse KL on the expert's own episodes."""
    name = f"of the count-based learner {method.name}"
    require(method.reward == "unread", f"reward {name}", method.reward, "unread")
    require(method.loss is None, f"loss {name}", getattr(method.loss, "__name__", method.loss), "None")
    require(method.divergence == "kl", f"divergence {name}", method.divergence, "kl")
    require(method.beta in (0, 1, None), f"beta {name}", method.beta, "0, 1 or None")
    require(method.support == "all", f"support {name}", method.support, "all")
    require(method.rule is None, f"rule {name}", getattr(method.rule, "name", None), "None")
    mixed, samples, queries = method.driver == "mixture", method.temperature > 0, method.beta != 0
    require(not (mixed and samples), f"temperature {name}", method.temperature, "0 in a mixture")
    require(method.driver != "expert" or not queries, f"beta {name}", method.beta, "0 where the expert drives")


def level_methods() -> tuple[str, ...]:
    """Names of the methods that the loop over levels (nail/counting/levels.py) can run, in the order of their table.

    The weights of a finite class do not come apart by levels.
    """

    def runs(method: Method) -> bool:
        try:
            check_counted(method)
        except BadInput:
            return False
        return method.decides != "class"

    return tuple(name for name, method in METHOD.items() if runs(method))
