"""Evaluation on questions with answers: greedy completions, what they answer, cross-entropy of the true ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from nail.lm.answers import extracted, same, same_leniently, truth, wilson_interval
from nail.lm.chat import answer_tokens, completion_text, pad_left, pad_right, prompt_tokens, room
from nail.lm.model import Model, Weights
from nail.lm.objective import Batch, likelihood_scores
from nail.lm.parallel import ALL, EACH, ROWS, added_up, divided, on_each, one_device, own, row_keys, share_of
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
    lenient_accuracy: float
    """share of right answers where the lenient reading counts too"""
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
    answers = tuple(answer_tokens(tokenizer, q.answer, stops) for q in questions)
    prompts = tuple(prompt_tokens(tokenizer, q.question) for q in questions)
    return Asked(tuple(truth(q.answer) for q in questions), prompts, answers)


def make_evaluate(
    model: Model, stops: tuple[int, ...], tokenizer: Any, asked: Asked, *, new: int, batch: int,
    temperature: float = 0.0, seed: int = 0, mesh: Mesh | None = None,
) -> Callable[..., Evaluation]:  # fmt: skip
    """weights → evaluation, on all questions, divided over the devices of `mesh` (none given: the first alone).

    A short last batch is filled up with the first question. A question's sample depends on its place and `seed` only.
    """
    mesh = mesh or one_device()
    plays = partial(rollout, model, new=new, temperature=temperature, stops=stops)

    def play(weights: Any, prompts: Any, real: Any, places: Any) -> Any:
        return plays(weights, prompts, real, row_keys(jax.random.key(seed), places))

    def score(weights: Any, rows: Batch) -> Any:
        return jax.lax.psum(likelihood_scores(model, *weights, rows, chunk=CHUNK), ROWS)

    play, score = on_each(play, mesh, (ALL, EACH, EACH, EACH), EACH), on_each(score, mesh, (ALL, EACH), ALL)
    long, longest, n = room(asked.prompts), room(asked.answers), len(asked.truths)
    size = -(-batch // mesh.size) * mesh.size

    def evaluate(weights: tuple[Weights, Weights], watch: Callable[[int], Any] = lambda done: None) -> Evaluation:
        counts, total, count = np.zeros(5, int), 0.0, 0.0
        for start in range(0, n, size):
            mine = share_of(range(start, start + size), mesh)
            filled = [i if i < n else 0 for i in mine]
            prompts = divided(pad_left([asked.prompts[i] for i in filled], long), mesh)
            played = play(weights, *prompts, divided(np.array(mine, np.int32), mesh))
            for i, tokens, counted in zip(mine, own(played.tokens), own(played.counted), strict=True):
                if i < n:
                    counts += _seen(tokenizer, tokens[counted].tolist(), stops, asked.truths[i])
            answers = pad_right([asked.answers[i] for i in filled], longest, sum(i < n for i in mine))
            found = score(weights, Batch(*prompts, *divided(answers, mesh)))
            total, count = total + float(found.total), count + float(found.count)
            watch(min(n, start + size) - start)
        right, leniently, unanswered, unfinished, length = map(int, added_up(counts))
        share = map(float, wilson_interval(right, n))
        return Evaluation(*share, leniently / n, n, unanswered, unfinished, total / count, length / n)

    return evaluate


def _seen(tokenizer: Any, tokens: list[int], stops: tuple[int, ...], true: str) -> tuple[int, ...]:
    """Of a completion: whether it is right, is leniently, has no answer, was cut; its length."""
    text = completion_text(tokenizer, tokens, stops)
    answer, cut = extracted(text), tokens[-1] not in stops
    return int(same(answer, true)), int(same_leniently(text, true)), int(answer is None), int(cut), len(tokens)
