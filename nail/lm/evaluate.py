"""Evaluation on questions with answers: greedy completions, what they answer, cross-entropy of the true ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nail.lm.answers import extracted, same, truth, wilson_interval
from nail.lm.chat import completion_text, pad_left, prompt_tokens, room
from nail.lm.model import Model, Weights
from nail.lm.objective import Batch, likelihood_scores
from nail.lm.questions import Question
from nail.lm.rollout import rollout

CHUNK = 256
"""positions whose logits are held at a time"""


class Asked(NamedTuple):
    """Questions as tokens, padded to one length each: prompts, and true answers with the end of the turn."""

    truths: tuple[str, ...]
    prompts: tuple[list[int], ...]
    answers: tuple[list[int], ...]


class Evaluation(NamedTuple):
    """What a model does on a set of questions."""

    accuracy: float
    low: float
    high: float
    """Wilson's 95 % interval"""
    questions: int
    unanswered: int
    """completions without any number or box"""
    unfinished: int
    """completions that were cut"""
    cross_entropy: float
    """nats per token of the true answers, the end of the turn included"""
    tokens: float
    """mean length of a completion, the stop token included"""

    def columns(self) -> dict[str, Any]:
        """As they stand in a row."""
        names = {"low": "accuracy_low", "high": "accuracy_high", "questions": "test_questions", "tokens": "test_tokens",
                 "cross_entropy": "test_loss"}  # fmt: skip
        return {names.get(name, name): value for name, value in self._asdict().items()}


def ask(tokenizer: Any, questions: Sequence[Question], stops: tuple[int, ...]) -> Asked:
    """Questions as an evaluation needs them; raises `BadInput` for an answer without "####"."""
    answers = tuple([*tokenizer(q.answer, add_special_tokens=False)["input_ids"], stops[-1]] for q in questions)
    prompts = tuple(prompt_tokens(tokenizer, q.question) for q in questions)
    return Asked(tuple(truth(q.answer) for q in questions), prompts, answers)


def make_evaluate(
    model: Model, stops: tuple[int, ...], tokenizer: Any, asked: Asked, *, new: int, batch: int,
    temperature: float = 0.0, seed: int = 0,
) -> Callable[[tuple[Weights, Weights]], Evaluation]:  # fmt: skip
    """weights → evaluation, on all questions; a short last batch is filled up with the first question."""
    play = jax.jit(partial(rollout, model, new=new, temperature=temperature, stops=stops))
    score = jax.jit(lambda weights, rows: likelihood_scores(model, *weights, rows, chunk=CHUNK))
    long, longest = room(asked.prompts), room(asked.answers)

    def evaluate(weights: tuple[Weights, Weights], watch: Callable[[int], Any] = lambda done: None) -> Evaluation:
        right = unanswered = unfinished = 0
        total = count = length = 0.0
        n = len(asked.truths)
        for start in range(0, n, batch):
            here = range(start, min(n, start + batch))
            filled = [*here, *[0] * (batch - len(here))]
            prompts = pad_left([asked.prompts[i] for i in filled], long)
            key = jax.random.fold_in(jax.random.key(seed), start)
            played = jax.device_get(play(weights, prompts.tokens, prompts.real, key))
            for row, i in enumerate(here):
                tokens = played.tokens[row][played.counted[row]].tolist()
                answer = extracted(completion_text(tokenizer, tokens, stops))
                right += same(answer, asked.truths[i])
                unanswered += answer is None
                unfinished += tokens[-1] not in stops
                length += len(tokens)
            tokens, counted = _padded_right([asked.answers[i] for i in filled], longest, len(here))
            found = score(weights, Batch(*map(jnp.asarray, (*prompts, tokens, counted))))
            total, count = total + float(found.total), count + float(found.count)
            watch(len(here))
        share = wilson_interval(right, n)
        return Evaluation(*map(float, share), n, unanswered, unfinished, total / count, length / n)

    return evaluate


def _padded_right(rows: Sequence[Sequence[int]], length: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows as (tokens, counted) of one length; only the first `kept` rows count."""
    tokens, counted = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        counted[i, : len(row)] = i < kept
    return tokens, counted
