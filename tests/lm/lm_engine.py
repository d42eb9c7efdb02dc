"""Models, prompts, rollouts, adapters: against transformers and PEFT where torch is there, else against themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from tiny import adapted, all_weights, keys, logits, nothing, prompts_of

from nail.checks import BadInput
from nail.lm.adapters import merged
from nail.lm.chat import completion_text, load_tokenizer, pad_left, prompt_tokens, room
from nail.lm.fresh import sizes_of, write_fresh
from nail.lm.lora import peft_tensors, write_adapter
from nail.lm.model import frozen, head, hidden_states, load, logits_of
from nail.lm.problems import vocabulary
from nail.lm.rollout import picked, rollout
from nail.lm.weights import hub_tensors, write_trained


def played(model, prompts, new, temperature=0.0, stops=(1, 5), seed=0):
    go = jax.jit(functools.partial(rollout, model, new=new, temperature=temperature, stops=stops))
    return jax.device_get(go(model.weights(), *map(jnp.asarray, prompts), keys(len(prompts.tokens), seed)))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Seven layers: one of them attends to all positions, the others within a window shorter than a prompt."""
    sizes, words = sizes_of(32, 7, 2, vocabulary()), vocabulary()
    return write_fresh(tmp_path_factory.mktemp("deep") / "m", sizes._replace(sliding_window_size=16), words, 3)


def test_prompts_have_one_begin_of_sequence_token_and_the_question(folders):
    tokenizer = load_tokenizer(folders[0], "student")
    tokens = prompt_tokens(tokenizer, "Ann has 3 eggs .")
    assert tokenizer.decode(tokens) == "<bos> <start_of_turn> user Ann has 3 eggs . <end_of_turn> <start_of_turn> model"
    assert pad_left([[1, 2], [3]], 3).tokens.tolist() == [[0, 1, 2], [0, 0, 3]]
    assert pad_left([[1, 2], [3]], 3).real.sum() == 3
    assert (room([[1] * 5]), room([[1] * 8]), room([[1] * 9])) == (8, 8, 16)
    ids = [tokenizer.convert_tokens_to_ids(w) for w in ("The", "answer", "is", "\\boxed{", "7", "}", "<eos>", "eggs")]
    assert completion_text(tokenizer, ids, (1, 5)) == "The answer is \\boxed{ 7 }"


def test_padding_on_the_left_changes_no_logits(folders):
    model, prompts = all_weights(folders[0]), prompts_of(folders[0])
    found = logits(model, *map(jnp.asarray, prompts))
    alone = prompts.tokens[1][prompts.real[1]][None]
    np.testing.assert_allclose(
        found[1][prompts.real[1]], logits(model, jnp.asarray(alone), jnp.ones(alone.shape, bool))[0], atol=2e-5
    )


def test_greedy_rollouts_are_argmax_of_the_models_own_logits(deep):
    """No cache: each token is the argmax of all logits of what is there so far. Then with a stop token of its own."""
    model, prompts, new = all_weights(deep), prompts_of(deep), 8
    tokens, real = map(jnp.asarray, prompts)
    start = tokens.shape[1]
    tokens, real = jnp.pad(tokens, ((0, 0), (0, new))), jnp.pad(real, ((0, 0), (0, new)), constant_values=True)
    all_logits = jax.jit(lambda w, t: logits_of(hidden_states(model, w, t, real), head(model, w)))
    for i in range(start, start + new):
        tokens = tokens.at[:, i].set(all_logits(model.weights(), tokens)[:, i - 1].argmax(-1))
    wanted = np.asarray(tokens[:, start:])
    found = played(model, prompts, new, stops=(deep.sizes.num_embed - 1,))
    assert found.tokens.tolist() == wanted.tolist()
    assert found.counted.all()
    stop = int(wanted[0, 2])
    stopped = played(model, prompts, new, stops=(int(stop), 1))
    for row, full, counted in zip(stopped.tokens, wanted, stopped.counted, strict=True):
        n = min([*np.flatnonzero(np.isin(full, (stop, 1))) + 1, new])
        assert counted.sum() == n
        assert counted[:n].all()
        assert row[:n].tolist() == full[:n].tolist()


def test_sampled_rollouts_are_draws_of_the_tempered_law():
    """Frequencies of 20,000 draws at T = 4: χ² of 6 tokens below its quantile 1 − 1e-6 (36), with a fixed seed."""
    z, temperature, n = jnp.array([0.0, 1.0, 2.0, 3.0, -1.0, 5.0]), 4.0, 20_000
    drawn = picked(jnp.broadcast_to(z, (n, 6)), temperature, keys(n))
    expected = n * np.asarray(jax.nn.softmax(z / temperature))
    assert ((np.bincount(drawn, minlength=6) - expected) ** 2 / expected).sum() < 36
    assert (picked(jnp.broadcast_to(z, (9, 6)), 0.0, keys(9)) == 5).all()


def test_different_seeds_sample_differently(folders):
    model, prompts = nothing(folders[1]), prompts_of(folders[1])
    a, b, again = (played(model, prompts, 6, temperature=1.0, seed=seed).tokens for seed in (0, 1, 0))
    assert (a != b).any()
    assert (a == again).all()


def test_logits_and_greedy_completions_are_transformers(deep):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    prompts, model = prompts_of(deep), all_weights(deep)
    reference = transformers.Gemma3ForCausalLM.from_pretrained(str(deep.path), dtype=torch.float32)
    given = {"input_ids": torch.tensor(prompts.tokens).long(), "attention_mask": torch.tensor(prompts.real).long()}
    wanted = reference(**given).logits.detach().numpy()[prompts.real]
    np.testing.assert_allclose(logits(model, *map(jnp.asarray, prompts))[prompts.real], wanted, atol=2e-5)
    texts = reference.generate(**given, max_new_tokens=12, do_sample=False)[:, prompts.tokens.shape[1] :].numpy()
    found = played(model, prompts, 12)
    for row, counted, text in zip(found.tokens, found.counted, texts, strict=True):
        assert row[counted].tolist() == text[: counted.sum()].tolist()


def test_weights_are_written_as_they_were_read(folders, tmp_path):
    for folder in folders:
        model = all_weights(folder)
        tensors = hub_tensors(nnx.to_pure_dict(model.trained), folder.sizes)
        before = load_file(folder.path / "model.safetensors")
        assert set(tensors) == set(before)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, before[name], err_msg=name)
        write_trained(tmp_path / folder.path.name, tensors, folder)
        assert (tmp_path / folder.path.name / "tokenizer.json").is_file()


def moved(model, seed=1):
    """Trained weights a little away from the start: adapters whose B is not 0."""
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(seed), x.shape), model.trained)


def test_adapters_begin_as_pefts_do(folders):
    """B = 0, so that nothing changes; A is uniform within 1/√inputs, as far as its largest entry shows."""
    student, prompts = folders[0], tuple(map(jnp.asarray, prompts_of(folders[0])))
    model = adapted(student, rank=16)
    np.testing.assert_array_equal(logits(model, *prompts), logits(nothing(student), *prompts))
    tensors = peft_tensors(nnx.to_pure_dict(model.trained), student.sizes)
    assert len(tensors) == 2 * 7 * student.sizes.num_layers
    for name, tensor in tensors.items():
        if "lora_B" in name:
            assert not tensor.any()
        else:
            assert 0.9 < np.abs(tensor).max() * np.sqrt(tensor.shape[1]) <= 1
    at = "base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"
    assert (tensors[at.format(0)] != tensors[at.format(1)]).any()


def test_saved_adapters_give_the_same_logits(folders, tmp_path):
    """Added to the weights by this package, and loaded by PEFT onto transformers' model."""
    student, prompts = folders[0], prompts_of(folders[0])
    model, given = adapted(student), tuple(map(jnp.asarray, prompts))
    trained = moved(model)
    found = logits(model, *given, model.weights(trained))
    assert np.abs(found - logits(model, *given)).max() > 0.1
    tensors = peft_tensors(nnx.to_pure_dict(jax.device_get(trained)), student.sizes)
    path = write_adapter(tmp_path / "adapter", tensors, student.path, 8, 16.0)
    added = frozen(merged(load(student, jnp.float32), student.sizes, path), student.sizes)
    np.testing.assert_allclose(logits(added, *given), found, atol=1e-4)
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base = transformers.Gemma3ForCausalLM.from_pretrained(str(student.path), dtype=torch.float32)
    reference = peft.PeftModel.from_pretrained(base, str(path))
    asked = {"input_ids": torch.tensor(prompts.tokens).long(), "attention_mask": torch.tensor(prompts.real).long()}
    wanted = reference(**asked).logits.detach().numpy()[prompts.real]
    np.testing.assert_allclose(found[prompts.real], wanted, atol=1e-4)


def test_adapters_that_do_not_fit_are_a_sentence(folders, tmp_path):
    model = adapted(folders[0])
    tensors = peft_tensors(nnx.to_pure_dict(model.trained), folders[0].sizes)
    path = write_adapter(tmp_path / "a", tensors, folders[0].path, 8, 16.0)
    with pytest.raises(BadInput, match="adapter must fit the model"):
        merged(load(folders[1], jnp.float32), folders[1].sizes, path)
    with pytest.raises(BadInput, match="adapter must be a folder of LoRA adapters"):
        merged(load(folders[0], jnp.float32), folders[0].sizes, tmp_path)


def test_damaged_weights_are_a_sentence(folders, tmp_path):
    tensors = load_file(folders[0].path / "model.safetensors")
    for name, change in (("cut", {}), ("shape", {"model.norm.weight": np.zeros(3, np.float32)})):
        left = {**tensors, **change} if change else {k: v for k, v in tensors.items() if "layers.1" not in k}
        folder = folders[0]._replace(path=write_trained(tmp_path / name, left, folders[0]))
        with pytest.raises(BadInput, match=r"must hold the weights that its config\.json describes"):
            logits(all_weights(folder), *map(jnp.asarray, prompts_of(folder)))
