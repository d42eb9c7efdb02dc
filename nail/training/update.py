"""One update: contexts → prefixes (who drives) → noisy expert law at each prefix → objective → gradient step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nail.methods import Method, expert_share
from nail.noise import Corruption, over, sample, words
from nail.policies.policy import Policy
from nail.rules import rollout_law
from nail.training import losses, rewards
from nail.training.config import TrainConfig
from nail.training.own_loss import at_position
from nail.training.privileged import follow, own_teacher
from nail.training.problem import Numbers, Setup, make_channel
from nail.training.rollout import draw, rollout


class TrainState(NamedTuple):
    """All that a run carries from one update to the next."""

    step: Int[Array, ""]
    """updates done"""
    params: Any
    moments: Any
    buffer: "Buffer | None"
    loss_sum: Float[Array, ""]
    """of the training losses since the last evaluation"""
    loss_count: Int[Array, ""]
    bad_step: Int[Array, ""]
    """first update whose loss was not finite, −1 while there is none"""
    reference: Any = None
    """parameters that the run began with, where they are read again (`privileged.began_with`)"""
    average: Any = None
    """moving average of the parameters, where it is the teacher"""


class Buffer(NamedTuple):
    """DAgger's aggregated data: the last C episodes, slot e mod C for episode e; contexts come from the bank again."""

    observations: Int[Array, "C H"]
    labels: Int[Array, "C H"]


class Visited(NamedTuple):
    """What one update learns from: B episodes of H prefixes."""

    contexts: Any
    observations: Int[Array, "B H"]
    actions: Int[Array, "B H"]
    """what was played at each prefix"""
    laws: Float[Array, "B H A"]
    """noisy expert's law at each prefix"""
    labels: Int[Array, "B H"]
    """one draw from it"""
    known: Any = None
    """what the student's rollout computed at these prefixes; None where another played or the batch is another"""
    rewards: Float[Array, " B"] | None = None
    """of the episodes, in [0, 1]; None where they are not read"""
    reference: Float[Array, " B"] | None = None
    """log-probability of what was played, by the parameters that the run began with; None without pairs"""


def buffer_shape(setup: Setup) -> Buffer | None:
    """Shapes and types of the data set of methods that aggregate, else None."""
    config, env = setup.config, setup.env
    if not setup.method.aggregate:
        return None
    capacity = config.dagger_buffer or config.batch * config.steps
    small = env.n_observations <= 256
    rows = jax.ShapeDtypeStruct((capacity, env.horizon), jnp.uint8 if small else jnp.int32)
    return Buffer(rows, rows)


def collect(
    setup: Setup, channel: Corruption, numbers: Numbers, params: Any, step: Int[Array, ""], key: PRNGKeyArray,
    reference: Any = None,
) -> Visited:  # fmt: skip
    """Roll out the batch of update `step` and ask the noisy expert at every visited prefix (B·H expert queries).

    A method that reads a reward plays each prompt `group` times, and has B episodes verified instead. `reference` are
    the parameters that pairs are compared with, or of a teacher in the expert's place (None: `params`, as at first).
    """
    config, method, env, policy, expert = setup
    index = step.astype(jnp.uint32) * jnp.uint32(config.batch) + jnp.arange(config.batch, dtype=jnp.uint32)
    if config.group_size is not None:
        index = index // jnp.uint32(config.group_size)
    contexts = jax.vmap(env.train_context)(index)
    channel = over(channel, contexts)
    if config.own_teacher:
        expert, channel = own_teacher(setup, channel, params if reference is None else reference, contexts, key)
    sampled = method.driver != "expert" and config.sampled
    draws = draw(key, config.batch, env, sampled, method.driver == "mixture")
    rolled = rollout(
        env, policy, params, contexts,
        driver=method.driver, draws=draws, temperature=numbers.temperature, rule=method.rule,
        rule_number=numbers.rule_number, expert=expert, channel=channel, expert_share=dagger_share(config, step),
        parallel=config.decode == "parallel", keep=method.driver != "expert" and not method.aggregate,
    )  # fmt: skip
    laws = channel.probs(expert.laws(contexts, rolled.observations))
    visited = Visited(contexts, rolled.observations, rolled.actions, laws, sample(laws, draws.label), rolled.known)
    if method.signal != "reward":
        return visited
    return _verified(setup, visited, params if reference is None else reference)


def _verified(setup: Setup, visited: Visited, reference: Any) -> Visited:
    """With the rewards of the episodes, and where pairs are compared what the reference thinks of them."""
    config, contexts, actions = setup.config, visited.contexts, visited.actions
    visited = visited._replace(rewards=rewards.verify(setup.env, config.reward_read, contexts, actions))
    if setup.method.reward != "pairs":
        return visited
    logits, _ = setup.policy.forward(reference, contexts, visited.observations)
    return visited._replace(reference=_chain(config, jax.nn.log_softmax(logits, axis=-1), actions))


def _chain(config: TrainConfig, logp: Float[Array, "B H A"], actions: Int[Array, "B H"]) -> Float[Array, " B"]:
    """log-probability of what was played, summed over the positions that `mask_first` leaves."""
    played = -_over_prefixes(losses.forward_mc)(logp, actions)
    return jnp.sum(played, axis=1, where=_counted(config, actions))


def _counted(config: TrainConfig, actions: Int[Array, "B H"]) -> Bool[Array, "B H"]:
    return jnp.ones(actions.shape, bool) if not config.mask_first else ~first_played(actions, config.masked_tokens)


def dagger_share(config: TrainConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """`expert_share` at update `step`: a round is ⌈steps/rounds⌉ updates."""
    return expert_share(jnp.float32(config.dagger_decay), step, -(-config.steps // config.dagger_rounds))


def aggregate(
    setup: Setup, channel: Corruption, buffer: Buffer, new: Visited, step: Int[Array, ""], key: PRNGKeyArray
) -> tuple[Buffer, Visited]:
    """Append the new episodes to the buffer and draw a batch uniformly from all that it holds."""
    batch, capacity = jnp.uint32(setup.config.batch), jnp.uint32(buffer.labels.shape[0])
    done = step.astype(jnp.uint32) * batch
    slot = done % capacity
    buffer = jax.tree.map(
        lambda rows, fresh: jax.lax.dynamic_update_slice_in_dim(rows, fresh.astype(rows.dtype), slot, 0),
        buffer,
        Buffer(new.observations, new.labels),
    )
    seen = done + batch
    pick = jax.random.randint(key, (setup.config.batch,), 0, jnp.minimum(seen, capacity), jnp.uint32)
    episode = pick + capacity * ((seen - 1 - pick) // capacity)
    contexts = jax.vmap(setup.env.train_context)(episode)
    observations, labels = buffer.observations[pick].astype(jnp.int32), buffer.labels[pick].astype(jnp.int32)
    laws = over(channel, contexts).probs(setup.expert.laws(contexts, observations))
    return buffer, Visited(contexts, observations, labels, laws, labels)


def objective(
    setup: Setup, channel: Corruption, numbers: Numbers, params: Any, visited: Visited, key: PRNGKeyArray
) -> Float[Array, ""]:
    """The method's loss, a mean over the batch and the H positions (those that `mask_first` leaves), in nats.

    Where a reward is read: the log loss of what was played, weighted by episode (`rewards.weights`), or the mean over
    the groups of `rewards.preference`, whose chains are sums over positions. A channel-aware student is compared as
    p_η; its rollout's tokens are those of the clean law all the same, which is what they are weighted by.
    """
    config = setup.config
    logits, _ = setup.policy.forward(params, visited.contexts, visited.observations, visited.known)
    logp = jax.nn.log_softmax(logits, axis=-1)
    if setup.method.reward == "pairs":
        lifts = _chain(config, logp, visited.actions) - visited.reference
        return rewards.preference(lifts, visited.rewards, config.group_size, config.preference_beta)
    if config.channel_aware:
        logp = losses.through_channel(logp, over(channel, visited.contexts))
    values = _at_prefixes(setup, numbers, logits, logp, visited, key)
    if not config.mask_first:
        return values.mean()
    counted = _counted(config, visited.actions)
    return jnp.sum(values, where=counted) / jnp.maximum(jnp.sum(counted), 1)


def first_played(actions: Int[Array, "B H"], tokens: tuple[int, ...]) -> Bool[Array, "B H"]:
    """Where an episode plays one of the tokens for the first time; each of them has a first time of its own."""
    played = actions[..., None] == jnp.array(tokens)
    return (played & (jnp.cumsum(played, axis=1) == 1)).any(-1)


def _at_prefixes(
    setup: Setup, numbers: Numbers, logits: Float[Array, "B H A"], logp: Float[Array, "B H A"], visited: Visited,
    key: PRNGKeyArray,
) -> Float[Array, "B H"]:  # fmt: skip
    """The method's loss at each visited prefix, nats: of the student's law `logp`, whose rollout had `logits`."""
    if setup.method.loss is not None:
        own = at_position(setup.method.loss, setup.config.estimator == "full")
        return _over_prefixes(own)(logp, visited.laws, visited.labels)
    config, method, played = setup.config, setup.method, logp
    if method.scores_rollout(config.estimator):
        played = rollout_law(method.rule, logits, numbers.temperature, numbers.rule_number)
    if method.signal == "reward":
        weights = rewards.weights(method.reward, visited.rewards, config.group_size)
        return weights[:, None] * _over_prefixes(losses.forward_mc)(played, visited.actions)
    beta, full = numbers.beta if method.beta is None else method.beta, config.estimator == "full"
    if full and method.support == "all":
        divergence = losses.mixed_full if method.divergence == "kl" else losses.jsd_full
        return _over_prefixes(lambda lp, t: divergence(lp, t, beta))(logp, visited.laws)
    actions = visited.actions
    if method.action == "auxiliary" and method.beta != 0.0:
        actions = sample(stop_gradient(jnp.exp(logp)), words(key, actions.shape))
    if method.support != "all":
        local = _on_support(method, config.support_size, full)
        return _over_prefixes(local)(logp, visited.laws, actions, played)
    mc = losses.mixed_mc if method.divergence == "kl" else losses.jsd_mc
    per_prefix = _over_prefixes(lambda lp, t, y, a, lq: mc(lp, t, y, a, lq, beta))
    return per_prefix(logp, visited.laws, visited.labels, actions, played)


FORWARD = {
    "renormalised": losses.top_renormalised, "unrenormalised": losses.top_unrenormalised, "tail": losses.top_tail,
}  # fmt: skip
REVERSE = {
    "renormalised": losses.local_renormalised, "unrenormalised": losses.local_unrenormalised,
    "tail": losses.local_tail_full,
}  # fmt: skip
"""support of a KL → its exact loss there"""


def _on_support(method: Method, k: int, full: bool) -> Any:
    """(log p, t, action, log q) → the loss on the expert's K most likely tokens; only a sampled tail reads the last two
    (`Method.samples_terms`)."""
    if method.samples_terms and not full:
        return lambda lp, t, a, lq: losses.local_tail_mc(lp, t, k, a, lq)
    exact = (FORWARD if method.beta == 0 else REVERSE)[method.support]
    return lambda lp, t, *_: exact(lp, t, k)


def optimiser(clip: float, weight_decay: float) -> optax.GradientTransformation:
    """AdamW without its learning rate, which is a traced number: clip, Adam (0.9, 0.95, ε 1e−8), weight decay.

    All parameters are one vector to it: a handful of operations instead of a handful per parameter array.
    """
    decay = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-8), decay)


def learning_rate(config: TrainConfig, lr: Float[Array, ""], step: Int[Array, ""]) -> Float[Array, ""]:
    """f + (lr − f)(t+1)/(w+1) for t < w warm-up updates, f = 1e−6, then lr (docs/paper.md §1.2).

    It is added up from the smaller of f and lr, so that rounding is that of the rate itself, however small lr is.
    """
    first, whole = 1e-6, float(config.warmup + 1)
    done, left = jnp.minimum((step + 1) / whole, 1.0), jnp.maximum(config.warmup - step, 0) / whole
    return jnp.where(lr >= first, first + (lr - first) * done, lr + (first - lr) * left)


def update(setup: Setup, numbers: Numbers, state: TrainState) -> TrainState:
    """The next update of a run: new parameters, optimiser moments, data set, and the loss before it counted."""
    config, step = setup.config, state.step
    key = jax.random.fold_in(jax.random.key(numbers.seed), step + 1)
    k_collect, k_pick, k_loss = jax.random.split(key, 3)
    channel = make_channel(setup, numbers)
    visited = collect(setup, channel, numbers, state.params, step, k_collect, _other(config, state))
    buffer = state.buffer
    if buffer is not None:
        buffer, visited = aggregate(setup, channel, buffer, visited, step, k_pick)
    visited = stop_gradient(visited)
    loss, gradient = jax.value_and_grad(
        lambda params: objective(setup, channel, numbers, params, visited, k_loss)
    )(state.params)  # fmt: skip
    direction, moments = optimiser(config.clip, config.weight_decay).update(gradient, state.moments, state.params)
    rate = learning_rate(config, numbers.lr, step)
    params = optax.apply_updates(state.params, jax.tree.map(lambda u: -rate * u, direction))
    average = None if state.average is None else follow(state.average, params, config.average_rate)
    bad_step = jnp.where((state.bad_step < 0) & ~jnp.isfinite(loss), step, state.bad_step)
    loss_sum, loss_count = state.loss_sum + loss, state.loss_count + 1
    return TrainState(step + 1, params, moments, buffer, loss_sum, loss_count, bad_step, state.reference, average)


def _other(config: TrainConfig, state: TrainState) -> Any:
    """The parameters that an update reads beside the student's."""
    return {"average": state.average, "live": None}.get(config.teacher, state.reference)


def initial_params(policy: Policy, seed: Int[Array, ""]) -> Any:
    """Parameters of a fresh run; the same for every method at the same seed."""
    return policy.init(jax.random.fold_in(jax.random.key(seed), 0))


def _over_prefixes(loss: Any) -> Any:
    return jax.vmap(jax.vmap(loss))
