"""NAIL as a trainer of TRL's, on tiny random models: `make test-trl` names this file, `make test` does not."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nail.checks import BadInput
from nail.integrations import trl as integration
from nail.integrations.trl import NailConfig, NailTrainer, mixed, picked
from nail.training import losses

WORDS = 24
STOP = 1
PROMPTS = ["w5 w6 w7", "w8 w9", "w10 w11 w12 w13", "w14"]


def model(width, seed):
    torch.manual_seed(seed)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, initializer_range=0.4, pad_token_id=0, bos_token_id=2,
            eos_token_id=STOP, tie_word_embeddings=False,
        )
    )  # fmt: skip
    made.generation_config.eos_token_id = STOP
    return made


def tokenizer():
    words = {name: i for i, name in enumerate(["<pad>", "<eos>", "<bos>", "<unk>"])}
    words |= {f"w{i}": i for i in range(4, WORDS)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def trainer(folder, **fields):
    given = {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "max_completion_length": 8, "bf16": False,
        "use_cpu": True, "report_to": [], "save_strategy": "no", "gradient_checkpointing": False, "max_steps": 1,
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "disable_tqdm": True, "seed": 3, "chunk_size": 5,
    }  # fmt: skip
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    args = NailConfig(**{**given, **fields})
    return NailTrainer(model(16, 0), model(20, 1), args, train_dataset=prompts, processing_class=tokenizer())


def batch_of(made):
    """Completions of the four prompts, as the trainer makes them."""
    made.model.train()
    return made._generate_and_score_completions([{"prompt": text} for text in PROMPTS])


def laws(made, batch, temperature):
    """(logits of the student, logits ÷ T of the expert) at all counted tokens at once, by the models' own heads."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    real = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    new, kept = batch["completion_ids"].shape[1], batch["completion_mask"].bool()
    found = [
        m(input_ids=ids, attention_mask=real).logits[:, -new - 1 : -1][kept] for m in (made.model, made.teacher_model)
    ]
    return found[0], found[1].detach() / temperature


def exact(made, beta):
    """(1−β)·KL(t‖p) + β·KL(p‖t) a token, along the student's own greedy completions."""
    with torch.no_grad():
        mine, noisy = (x.log_softmax(-1) for x in laws(made, batch_of(made), made.args.expert_temperature))
    forward = (noisy.exp() * (noisy - mine)).sum(-1).mean()
    return float((1 - beta) * forward + beta * (mine.exp() * (mine - noisy)).sum(-1).mean())


def as_jax(mine, noisy, labels, actions, beta):
    """Mean of the package's losses on the same logits, and its gradient in the student's logits."""
    t, y, a = jax.nn.softmax(jnp.asarray(noisy.numpy())), jnp.asarray(labels.numpy()), jnp.asarray(actions.numpy())

    def total(z):
        each = jax.vmap(lambda lp, t, y, a: losses.mixed_mc(lp, t, y, a, lp, beta))
        return each(jax.nn.log_softmax(z), t, y, a).mean()

    return jax.value_and_grad(total)(jnp.asarray(mine.detach().numpy()))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_losses_are_the_packages(beta):
    """Value and gradient in logits, at 40 random laws; some of the expert's tokens are below the floor."""
    draw = torch.Generator().manual_seed(0)
    mine, noisy = torch.randn(40, WORDS, generator=draw), 12 * torch.randn(40, WORDS, generator=draw)
    labels, actions = (torch.randint(WORDS, (40,), generator=draw) for _ in range(2))
    z = mine.clone().requires_grad_()
    value = mixed(z.log_softmax(-1), noisy.log_softmax(-1), labels, actions, beta).mean()
    value.backward()
    wanted, slope = as_jax(mine, noisy, labels, actions, beta)
    assert float(noisy.softmax(-1).gather(-1, actions[:, None]).min()) < losses.FLOOR
    np.testing.assert_allclose(value.item(), wanted, rtol=1e-5)
    np.testing.assert_allclose(z.grad, slope, atol=1e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_gradient_of_a_step_is_that_of_the_packages_losses(tmp_path, monkeypatch, beta, accumulation):
    """All parameters' gradients of one update, T = 3, within 1e-5: chain rule through the model from JAX's slope.

    Tokens are picked at the numbers 0.3 and 0.6 at each position; completions have different lengths, so that with two
    micro-batches a mean of their means would be another gradient.
    """
    monkeypatch.setattr(
        NailTrainer, "uniforms", lambda self, n, device: torch.tensor([[0.3, 0.6]]).double().repeat(n, 1)
    )
    made = trainer(
        tmp_path, beta=beta, expert_temperature=3.0, per_device_train_batch_size=4 // accumulation,
        gradient_accumulation_steps=accumulation, max_grad_norm=0.0, learning_rate=0.0,
    )  # fmt: skip
    with torch.no_grad():
        made.model.lm_head.weight[STOP] += 0.4 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    found = {}
    made.add_callback(keep_gradients(found))
    batch = batch_of(made)
    lengths = batch["completion_mask"].sum(1)
    assert len(set(lengths.tolist())) > 1
    made._buffered_inputs = None
    made.train()
    mine, noisy = laws(made, batch, 3.0)
    labels = picked(noisy.log_softmax(-1), torch.full((len(mine),), 0.3).double())
    actions = picked(mine.detach().log_softmax(-1), torch.full((len(mine),), 0.6).double())
    _, slope = as_jax(mine, noisy, labels, actions, beta)
    parameters = dict(made.model.named_parameters())
    wanted = torch.autograd.grad(mine, list(parameters.values()), torch.tensor(np.array(slope)))
    assert max(float(x.abs().max()) for x in wanted) > 0.01
    for name, gradient in zip(parameters, wanted, strict=True):
        np.testing.assert_allclose(found[name], gradient, atol=1e-5, err_msg=name)


def keep_gradients(found):
    from transformers import TrainerCallback

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **more):
            found.update({name: x.grad.clone() for name, x in model.named_parameters()})

    return Keep()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_exact_divergence_falls(tmp_path, beta):
    """NAIL-β at β = 0, ½, 1 for 40 updates: what it minimises, exactly, falls below 0.8 of the start."""
    made = trainer(tmp_path, beta=beta, max_steps=40)
    before = exact(made, beta)
    made.train()
    after = exact(made, beta)
    print(f"beta {beta}: {before:.3f} to {after:.3f}")
    assert after < 0.8 * before


def test_rollouts_are_greedy_and_count_the_stop_token(tmp_path):
    """Each completion is the student's most likely tokens, and ends with the first stop token, which counts."""
    made = trainer(tmp_path)
    with torch.no_grad():
        made.model.lm_head.weight[STOP] += 0.4 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    batch = batch_of(made)
    with torch.no_grad():
        best = laws(made, batch, 1.0)[0].argmax(-1)
    kept = batch["completion_mask"].bool()
    assert torch.equal(best, batch["completion_ids"][kept])
    assert batch["num_items_in_batch"] == kept.sum()
    ended = [row[real].tolist() for row, real in zip(batch["completion_ids"], kept, strict=True)]
    assert any(row[-1] == STOP for row in ended)
    assert all(STOP not in row[:-1] for row in ended)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing_and_bound_the_rows_of_logits(tmp_path, monkeypatch, chunk):
    """The loss of a batch, for chunks of 1, 7 and 1,000 positions; no call of a head has more rows than a chunk."""
    made, rows = trainer(tmp_path), []
    batch, plain = batch_of(made), integration.Head.__call__

    def seen(self, hidden):
        rows.append(len(hidden))
        return plain(self, hidden)

    monkeypatch.setattr(integration.Head, "__call__", seen)
    found = []
    for made.args.chunk_size in (chunk, 5):
        torch.manual_seed(0)
        rows.clear()
        found.append(made._compute_loss(made.model, batch, None)[0].item())
        assert max(rows) <= made.args.chunk_size
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_tokens_are_picked_with_their_probabilities():
    """200,000 draws from 4 laws: each frequency within 5 standard errors (1e-5 in all); a token of mass 0 never."""
    law = torch.tensor([[0.5, 0.2, 0.3], [0.0, 1.0, 0.0], [0.9, 0.0, 0.1], [0.2, 0.8, 0.0]])
    n = 50_000
    u = torch.rand(4 * n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = picked(law.log().repeat_interleave(n, 0), u).reshape(4, n)
    share = torch.stack([(found == a).double().mean(1) for a in range(3)], 1)
    assert ((share - law).abs() <= 5 * (law * (1 - law) / n).sqrt()).all()
    assert picked(law.log(), torch.zeros(4, dtype=torch.float64)).tolist() == [0, 1, 0, 0]
    assert picked(law.log(), torch.full((4,), 1 - 2**-53, dtype=torch.float64)).tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize("field", [{"beta": 1.1}, {"expert_temperature": 0.0}, {"chunk_size": 0}])
def test_a_value_out_of_range_is_one_sentence(tmp_path, field):
    with pytest.raises(BadInput, match=f"^{next(iter(field))} must be .*, got"):
        NailConfig(output_dir=str(tmp_path), **field)


def test_without_the_extra_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['trl'] = None; import nail.integrations.trl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BadInput: nail.integrations.trl needs packages" in done.stderr
    assert "pip install 'nail[trl]'" in done.stderr
