"""Classification by definitions that stand in the prompt (docs/token_tasks.md §3): layout, expert and teacher."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.bank import mix
from nail.envs.tokens import Score, exact_match
from nail.noise import Huber, sample, uniform_kernel, words

ATTRIBUTES, VALUES, CLASSES = 4, 4, 4
CRITERIA = ATTRIBUTES * VALUES
"""criterion k_{j,u}, attribute j has the value u (both from 0), is the token 4j + u"""
NAME, YES, NO, BAR, EQUALS, NOT, PAD, VOCABULARY = 16, 20, 21, 22, 23, 24, 25, 26
"""the first of the four names, and the other tokens; NOT and PAD (in empty slots) stand in prompts alone"""
CANONICAL = tuple(VALUES * c for c in range(CLASSES))
"""d*_c = k_{c,0}: the criterion that name c usually has"""
HELD_OUT = tuple(VALUES * j + VALUES - 1 for j in range(ATTRIBUTES))
"""k_{j,3}: values of items, and no definition of any prompt of the bank"""
OPEN = tuple(k for k in range(CRITERIA) if k not in HELD_OUT)
"""the 12 criteria of random assignments"""
PRIOR = (0.7, 0.1, 0.1, 0.1)
"""of the classes; the first is the majority"""
LENGTH = 13
"""tokens of a prompt and of a chain"""
ORDERS = np.array(list(itertools.permutations(range(CLASSES))), np.int32)
HELD_ORDERS = 2
"""of the 24 orders of the names, for each item and definitions: those of validation prompts; of the six with one name
last, where that is negated, `HELD_NEGATED`"""
HELD_NEGATED = 1
ENDING = np.array([np.flatnonzero(ORDERS[:, -1] == c) for c in range(CLASSES)])
"""the six orders that end with each name, as numbers of `ORDERS`"""
PLACES = np.array([int(np.flatnonzero(ENDING[order[-1]] == i)[0]) for i, order in enumerate(ORDERS)])
"""of each order among those six"""
TRAINING, VALIDATION = 0, 1

Prompt = Int[Array, " 13"]
Criteria = Int[Array, " 4"]


class Place(NamedTuple):
    """Where an episode stands."""

    context: Prompt
    step: Int[Array, ""]
    token: Int[Array, ""]
    name: Int[Array, ""]
    """token at the name of this block"""
    votes: Float[Array, " 4"]
    """how many finished blocks say Y of each name"""


class DefClass(NamedTuple):
    """Prompt (13): the four names in random order, each followed by its criterion; "|"; the item's four values. Chain
    (13) after "=": for c = 1..4 name c, its criterion, Y or N; then the name whose definition the item meets. Where NOT
    stands in place of "|" the criterion before it is negated: the item meets it where it does not have it.

    The clean expert reads what the *prefix* says: the criterion of the name before, whether the item meets the
    criterion before, and the names that the chain says Y of (uniform over them, over all if there is none); where the
    token before is of another kind it is uniform over the criteria, or over Y and N. It is lost nowhere.
    """

    epsilon: float
    """share of prompts whose definitions are a random assignment, and not the canonical ones"""
    eta_new: float
    """rate at which the teacher reads other definitions as the canonical ones"""
    bank_seed: int
    n_validation: int
    negated: float = 0.0
    """share of prompts in which one definition is negated"""

    horizon = LENGTH
    prompt_length = LENGTH
    n_actions = VOCABULARY
    n_observations = VOCABULARY
    noise_support = tuple(range(NO + 1))
    """what a chain can consist of: criteria, names, Y and N"""

    def train_context(self, index: UInt32[Array, ""]) -> Prompt:
        """Training prompt `index`."""
        return self._draw(TRAINING, index)

    def validation_context(self, index: UInt32[Array, ""]) -> Prompt:
        """Validation prompt `index`; they may repeat each other, and are no training prompts."""
        return self._draw(VALIDATION, index)

    def held_out(self, prompt: Prompt) -> Bool[Array, ""]:
        """Whether a prompt is one of validation: its names stand in one of two orders, which its definitions and its
        item have by a keyed hash; in one of the six with the same name last, where that is negated."""
        order = jnp.argmax(((prompt[0:8:2] - NAME)[None] == ORDERS).all(-1))
        shift = self._shift(criteria(prompt), item(prompt))
        with_not = (jnp.asarray(PLACES)[order] + shift) % ENDING.shape[1] < HELD_NEGATED
        return jnp.where(negation(prompt).any(), with_not, (order + shift) % len(ORDERS) < HELD_ORDERS)

    def clean_actions(self, context: Prompt) -> Int[Array, " 13"]:
        """The right chain."""
        found, names = criteria(context), NAME + jnp.arange(CLASSES)
        marks = jnp.where(met(context), YES, NO)
        return jnp.append(jnp.stack([names, found, marks], axis=1).ravel(), NAME + answer(context)).astype(jnp.int32)

    def chain_to(self, context: Prompt, answer: Int[Array, ""]) -> Int[Array, " 13"]:
        """The chain that says Y of the name `answer` alone and ends with it, with the criteria as they are."""
        names = NAME + jnp.arange(CLASSES)
        blocks = jnp.stack([names, criteria(context), jnp.where(names == answer, YES, NO)], axis=1).ravel()
        return jnp.append(blocks, answer).astype(jnp.int32)

    def observations(self, context: Prompt, actions: Int[Array, " 13"]) -> Int[Array, " 13"]:
        """ "=" and the tokens a_1..a_12."""
        return jnp.concatenate([jnp.array([EQUALS], jnp.int32), actions[:-1]])

    def start(self, context: Prompt) -> Place:
        """Nothing emitted yet."""
        return Place(context, jnp.int32(0), jnp.int32(EQUALS), jnp.int32(PAD), jnp.zeros(CLASSES))

    def observe(self, state: Place) -> Int[Array, ""]:
        """The token before the one to be emitted."""
        return state.token

    def advance(self, state: Place, action: Int[Array, ""]) -> Place:
        """Append `action` to the chain."""
        kind, action = state.step % 3, action.astype(jnp.int32)
        name = jnp.where(kind == 0, action, state.name)
        vote = (kind == 2) & (action == YES) & (jnp.arange(CLASSES) == name - NAME)
        return Place(state.context, state.step + 1, action, name, state.votes + vote)

    def law(self, state: Place) -> Float[Array, " A"]:
        """The clean expert's next-token law at this prefix."""
        return _law(state.context, state.step, state.token, state.votes)

    def laws(self, context: Prompt, observations: Int[Array, " 13"]) -> Float[Array, "13 A"]:
        """The clean expert's law at every prefix of the chain that `observations` = ("=", a_1, …, a_12) spells."""
        names, marks = observations[1::3], observations[3::3]
        votes = ((marks == YES)[:, None] & (names[:, None] == NAME + jnp.arange(CLASSES))).sum(0).astype(jnp.float32)
        steps = jnp.arange(LENGTH)
        return jax.vmap(_law, in_axes=(None, 0, 0, None))(context, steps, observations, votes)

    def lost(self, state: Place) -> Bool[Array, ""]:
        """Nowhere: the expert goes on from what the prefix says."""
        return jnp.bool_(False)

    def poisoned(self, context: Prompt, observations: Int[Array, " 13"]) -> Bool[Array, " 13"]:
        """Nowhere."""
        return jnp.zeros(LENGTH, bool)

    def score(self, context: Prompt, actions: Int[Array, " 13"]) -> Score:
        """Against the right chain; the answer is the last token."""
        return exact_match(actions, self.clean_actions(context))

    def teacher(self, context: Prompt, eta: Float[Array, ""] | float) -> Huber:
        """The channel of the noise law `canonical` at the 13 positions of a prompt (docs/token_tasks.md §3.3).

        On canonical definitions (1−η)π* + η·uniform over `noise_support` everywhere. On others the criterion of block c
        is (1−η_new)π* + η_new·1[d*_c], and all else is clean.
        """
        usual, block = canonical(context), np.arange(LENGTH)
        moved = (block % 3 == 1) & (block < 12)
        rate = jnp.where(usual, eta, self.eta_new * jnp.asarray(moved, jnp.float32))
        uniform = jnp.asarray(uniform_kernel(VOCABULARY, self.noise_support), jnp.float32)
        stubborn = jax.nn.one_hot(jnp.asarray(CANONICAL)[np.minimum(block // 3, CLASSES - 1)], VOCABULARY)
        return Huber(rate, jnp.where(usual, uniform[None], stubborn))

    def misreader(self, context: Prompt, eta: Float[Array, ""] | float) -> Huber:
        """The channel of the noise law `misread` at the 13 positions of a prompt (docs/token_tasks.md §3.7).

        Where the item has the negated criterion its mark is (1−η)·1[N] + η·1[Y]; all else, and everywhere else, clean.
        """
        tempting = negation(context) & jnp.isin(criteria(context), item(context))
        rate = jnp.zeros(LENGTH).at[2:12:3].set(jnp.where(tempting, eta, 0.0))
        return Huber(rate, jnp.broadcast_to(jax.nn.one_hot(YES, VOCABULARY), (LENGTH, VOCABULARY)))

    def _draw(self, stream: int, index: UInt32[Array, ""]) -> Prompt:
        """Prompt `index` of a stream: definitions, class, item, and an order of the names that is the stream's."""
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.bank_seed), stream), index)
        k_new, k_criteria, k_class, k_item, k_order = jax.random.split(key, 5)
        other = jax.random.permutation(k_criteria, jnp.array(OPEN, jnp.int32))[:CLASSES]
        found = jnp.where(jax.random.uniform(k_new) < self.epsilon, other, jnp.array(CANONICAL, jnp.int32))
        label = sample(jnp.array(PRIOR, jnp.float32), words(k_class))
        first, last = (HELD_ORDERS, len(ORDERS)) if stream == TRAINING else (0, HELD_ORDERS)
        place = jax.random.randint(k_order, (), first, last)
        values = draw_item(k_item, found, jnp.arange(CLASSES) == label)
        plain = make_prompt(found, values, jnp.asarray(ORDERS)[(place - self._shift(found, values)) % len(ORDERS)])
        return self._negate(key, stream, found, label, plain) if self.negated > 0 else plain

    def _negate(self, key: Array, stream: int, found: Criteria, label: Int[Array, ""], plain: Prompt) -> Prompt:
        """With probability `negated` the prompt with the same criteria and class in which one is negated, else `plain`.

        The negated name is uniform over that of the class and those whose criterion is of another attribute, so that
        the item can have both; it stands last, in an order that is the stream's.
        """
        k_share, k_which, k_item, k_order = jax.random.split(jax.random.fold_in(key, NOT), 4)
        names, last = jnp.arange(CLASSES), ENDING.shape[1]
        can = (names == label) | (found // VALUES != found[label] // VALUES)
        which = jnp.argmax(jnp.where(can, jax.random.uniform(k_which, (CLASSES,)), -1.0))
        values = draw_item(k_item, found, (names == label) != (names == which))
        low, high = (HELD_NEGATED, last) if stream == TRAINING else (0, HELD_NEGATED)
        place = (jax.random.randint(k_order, (), low, high) - self._shift(found, values)) % last
        order = jnp.asarray(ORDERS)[jnp.asarray(ENDING)[which, place]]
        changed = make_prompt(found, values, order, NOT)
        return jnp.where(jax.random.uniform(k_share) < self.negated, changed, plain)

    def _shift(self, found: Criteria, values: Criteria) -> Int[Array, ""]:
        """A keyed hash of definitions and item into 0..23."""
        words = np.random.default_rng(self.bank_seed)
        odd = jnp.array(words.integers(0, 2**31, 2 * CLASSES) * 2 + 1, jnp.uint32)
        salt = jnp.uint32(words.integers(0, 2**32))
        mixed = mix(jnp.sum((jnp.concatenate([found, values]).astype(jnp.uint32) + 1) * odd, dtype=jnp.uint32) ^ salt)
        return ((mixed >> 8) % jnp.uint32(len(ORDERS))).astype(jnp.int32)


def make_prompt(found: Criteria, values: Criteria, order: Criteria, bar: int = BAR) -> Prompt:
    """The prompt of criteria by name, the item's tokens by attribute, and the order of the names; with `bar` NOT the
    last one's criterion is negated."""
    pairs = jnp.stack([NAME + order, found[order]], axis=1).ravel()
    return jnp.concatenate([pairs, jnp.array([bar]), values]).astype(jnp.int32)


def draw_item(key: Array, found: Criteria, inside: Bool[Array, " 4"]) -> Criteria:
    """An item that has of the criteria `found` those of the names `inside`, of different attributes, and no other:
    other values uniform over the rest."""
    tokens = jnp.arange(CRITERIA)
    right, taken = ((tokens[:, None] == found[None]) & inside).any(1), (tokens[:, None] == found[None]).any(1)
    same = ((tokens[:, None] // VALUES == found[None] // VALUES) & inside).any(1)
    allowed = right | (~taken & ~same)
    chosen = jnp.argmax(jnp.where(allowed, jax.random.uniform(key, (CRITERIA,)), -1.0).reshape(-1, VALUES), axis=1)
    return (VALUES * jnp.arange(ATTRIBUTES) + chosen).astype(jnp.int32)


def criteria(prompt: Prompt) -> Criteria:
    """The criterion of each name, by name."""
    return prompt[1:8:2][jnp.argsort(prompt[0:8:2])]


def item(prompt: Prompt) -> Criteria:
    """The item's tokens, by attribute."""
    return prompt[9:LENGTH]


def negation(prompt: Prompt) -> Bool[Array, " 4"]:
    """Whether the criterion of each name is negated: that of the last one, where NOT follows it."""
    return (prompt[8] == NOT) & (NAME + jnp.arange(CLASSES) == prompt[6])


def met(prompt: Prompt) -> Bool[Array, " 4"]:
    """Whether the item meets the definition of each name; it meets one alone."""
    return jnp.isin(criteria(prompt), item(prompt)) ^ negation(prompt)


def answer(prompt: Prompt) -> Int[Array, ""]:
    """The right class 0..3: the name whose definition the item meets."""
    return jnp.argmax(met(prompt)).astype(jnp.int32)


def answered(actions: Int[Array, " 13"]) -> Int[Array, ""]:
    """The class 0..3 that a chain ends with, −1 if its last token is no name."""
    label = actions[-1] - NAME
    return jnp.where((label >= 0) & (label < CLASSES), label, -1).astype(jnp.int32)


def canonical(prompt: Prompt) -> Bool[Array, ""]:
    """Whether the criteria are the usual ones, negated or not."""
    return (criteria(prompt) == jnp.array(CANONICAL)).all()


def _law(prompt: Prompt, step: Int[Array, ""], token: Int[Array, ""], votes: Float[Array, " 4"]) -> Float[Array, " A"]:
    """The clean law at position `step` after `token`, where the blocks before say Y of each name so many times."""
    actions, kind = jnp.arange(VOCABULARY), step % 3
    one = lambda target: (actions == target).astype(jnp.float32)  # noqa: E731
    over = lambda first, last: ((actions >= first) & (actions <= last)) / (last - first + 1.0)  # noqa: E731
    is_name, is_criterion = (token >= NAME) & (token < YES), token < CRITERIA
    read = jnp.where(is_name, one(criteria(prompt)[jnp.clip(token - NAME, 0, CLASSES - 1)]), over(0, CRITERIA - 1))
    meets = jnp.isin(token, item(prompt)) ^ ((prompt[8] == NOT) & (token == prompt[7]))
    mark = jnp.where(is_criterion, one(jnp.where(meets, YES, NO)), over(YES, NO))
    named = jnp.zeros(VOCABULARY).at[NAME : NAME + CLASSES].set(votes / jnp.maximum(votes.sum(), 1.0))
    last = jnp.where(votes.sum() > 0, named, over(NAME, NAME + CLASSES - 1))
    middle = jnp.where(kind == 0, one(NAME + step // 3), jnp.where(kind == 1, read, mark))
    return jnp.where(step == LENGTH - 1, last, middle).astype(jnp.float32)


def make_defclass(epsilon: float, eta_new: float, bank_seed: int, n_validation: int, negated: float = 0.0) -> DefClass:
    """The task with its prompts."""
    return DefClass(epsilon, eta_new, bank_seed, n_validation, negated)
