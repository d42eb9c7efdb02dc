"""What the tests of language models share: prompts of the word problems, models in float32, a run's configuration."""

import jax
import jax.numpy as jnp
import numpy as np

from nail.lm.chat import Prompts, load_tokenizer, pad_left, prompt_tokens, room
from nail.lm.config import LmConfig
from nail.lm.lora import with_lora
from nail.lm.model import frozen, head, hidden_states, load, logits_of, whole
from nail.lm.parallel import divided, everywhere, one_device, row_keys
from nail.lm.problems import problems
from nail.lm.update import numbers


def prompts_of(folder, n=3):
    """n prompts of different lengths, padded on the left."""
    rows = [prompt_tokens(load_tokenizer(folder, "student"), p.question) for p in problems(n, 0, "train")]
    assert len(set(map(len, rows))) > 1
    return pad_left(rows, room(rows))


def all_weights(folder):
    return whole(load(folder, jnp.float32), folder.sizes)


def nothing(folder):
    return frozen(load(folder, jnp.float32), folder.sizes)


def adapted(folder, rank=8):
    return with_lora(load(folder, jnp.float32), folder.sizes, rank, 2.0 * rank, jax.random.key(0))


def keys(n, seed=0):
    """A key for each of n rows."""
    return row_keys(jax.random.key(seed), jnp.arange(n))


def logits(model, tokens, real, weights=None):
    """Logits of all positions, as numpy."""
    weights = model.weights() if weights is None else weights
    found = jax.jit(lambda w: logits_of(hidden_states(model, w, tokens, real), head(model, w)))(weights)
    return np.asarray(found)


def config_of(student, expert, **fields):
    given = {
        "student": student.path, "expert": expert and expert.path, "prompts": student.path.parent / "train.jsonl",
        "steps": 6, "batch": 4, "micro": 2, "new_tokens": 8, "lr": 1e-2, "lora_rank": 4, "lora_alpha": 8.0,
        "kind": "float32", "chunk": 16, "eval_every": 3, "eval_tokens": 8, "eval_batch": 4, "checkpoint_every": 2,
    }  # fmt: skip
    return LmConfig(**{**given, **fields})


def shaken(student, much=0.05):
    """Trained weights away from the start, so that all of them have a gradient."""
    return jax.tree.map(lambda x: x + much * jax.random.normal(jax.random.key(1), x.shape), student.trained)


def plain_logits(model, weights, batch):
    """Logits at the prefixes of a batch, all at once, from the whole sequence."""
    tokens = jnp.concatenate([batch.prompts, batch.tokens], 1)
    real = jnp.concatenate([batch.real, batch.counted], 1)
    found = logits_of(hidden_states(model, weights, tokens, real), head(model, weights))
    return found[:, batch.prompts.shape[1] - 1 : -1]


def placed(config, student, expert, prompts, mesh=None):
    """What an update takes beside the state."""
    mesh = mesh or one_device()
    return (
        numbers(config, mesh),
        *everywhere((student.fixed, expert.weights()), mesh),
        divided(Prompts(*prompts), mesh),
    )


def train_command(student, expert, out, /, **given):
    """The command line of a small run."""
    options = {
        "student": student.path, "expert": expert.path, "prompts": student.path.parent / "train.jsonl",
        "test": student.path.parent / "test.jsonl", "method": "nail-beta", "steps": 6, "batch": 4, "micro": 2,
        "new-tokens": 8, "lr": 1e-2, "lora-rank": 4, "lora-alpha": 8, "kind": "float32", "chunk": 32, "eval-every": 3,
        "eval-tokens": 8, "eval-batch": 4, "checkpoint-every": 1, "out": out, **given,
    }  # fmt: skip
    return ["lm", "train", *(f"--{name}={value}" for name, value in options.items())]


def left_in(out):
    """Rows without what the clock says, and the bytes of what was trained."""
    trained = {path.name: path.read_bytes() for path in (out / "trained").iterdir()}
    return (out / "rows.csv").read_text(), trained
