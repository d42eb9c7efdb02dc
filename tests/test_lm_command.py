"""What `nail lm` does without its extra, and the parts of a run that need none of it."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import optax
import pytest

from nail.checks import BadInput
from nail.cli.main import main
from nail.lm import extra
from nail.lm.config import LmConfig, check, content_of, lm_methods
from nail.lm.folders import read_folder, require_same_vocabulary, require_tokenizer_fits
from nail.lm.optimiser import optimiser, rate
from nail.lm.weights import hub_config
from nail.methods import TOP_P, Method
from nail.training.doors import add_method

CONFIG = LmConfig(student=Path("s"), expert=Path("e"), prompts=Path("p"))


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--student", "a", "--expert", "b", "--prompts", "c"],
        ["evaluate", "--model", "a", "--test", "b"],
    ],
)
def test_without_the_extra_each_command_says_what_to_install(monkeypatch, capsys, command):
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "qwix" else importlib.util.find_spec("json"))
    assert main(["lm", *command]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("nail: nail lm needs packages that are not installed (qwix): pip install 'nail[lm]'")


def test_the_methods_are_those_whose_fields_fit():
    assert set(lm_methods()) == {"loglossbc", "opd-f", "opd-r", "nail-f", "nail-r", "nail-beta"}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (Method("new", "", "student", beta=1.0, support="renormalised", top_k_teacher=4), "support renormalised"),
        (Method("new", "", "expert", beta=1.0), "beta 1.0"),
        (Method("new", "", "student", aggregate=True), "aggregate True"),
        (Method("new", "", "student", rule=TOP_P), "rule top-p"),
        (Method("new", "", "mixture"), "driver mixture"),
        (Method("new", "", "student", told="eta"), "told eta"),
    ],
)
def test_a_row_is_refused_with_what_language_models_do_not_read(row, sentence, tables):
    """No field of a row is left unread, so that none trains as another row would."""
    add_method(row)
    assert "new" not in lm_methods()
    with pytest.raises(BadInput, match=f"method must be one of .*know no {sentence}"):
        check(dataclasses.replace(CONFIG, method="new"))


def test_a_beta_is_for_a_row_without_one(tables):
    with pytest.raises(BadInput, match="beta must be left out: nail-f has a β of its own"):
        check(dataclasses.replace(CONFIG, method="nail-f", beta=0.25))
    add_method(Method("new", "", "student", beta=None, temperature=1.0))
    assert check(dataclasses.replace(CONFIG, method="new", beta=0.25)).beta == 0.25


def test_the_defaults_are_the_protocols():
    found = check(CONFIG).columns()
    wanted = {
        "beta": 0.5, "steps": 6250, "batch": 64, "micro": 16, "new_tokens": 1024, "lr": 1e-4, "weight_decay": 0.01,
        "clip": 1.0, "lora_rank": 128, "lora_alpha": 256.0, "kind": "bfloat16", "eval_every": 200, "eval_tokens": 512,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert dataclasses.replace(CONFIG, method="loglossbc").clipped == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "dagger"), ("method", "jsd-beta"), ("expert_temperature", 0.0), ("expert_temperature", -1.0),
        ("expert_temperature", float("nan")), ("beta", 1.5), ("beta", float("nan")), ("steps", 0), ("batch", 0),
        ("micro", 5), ("micro", 0), ("new_tokens", 0), ("lr", 0.0), ("clip", -1.0), ("lora_rank", -1),
        ("lora_alpha", 0.0), ("kind", "float16"), ("seed", -1), ("chunk", 0), ("eval_every", 0),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_a_sentence(field, value):
    with pytest.raises(BadInput, match=field) as raised:
        check(dataclasses.replace(CONFIG, **{field: value}))
    assert "\n" not in str(raised.value)


def test_the_rate_rises_for_a_tenth_and_falls_to_a_hundredth():
    """lr·t/w, then lr·max(0.01, (1 + cos π(t−w)/(n−w))/2), w = ⌈n/10⌉."""
    n, lr = 200, 3e-4
    found = np.array([rate(lr, n, t) for t in range(n + 1)])
    t = np.arange(n + 1)
    cosine = np.maximum(0.01, (1 + np.cos(np.pi * (t - 20) / 180)) / 2)
    np.testing.assert_allclose(found, lr * np.where(t < 20, t / 20, cosine), rtol=2e-5)
    assert found[0] == 0
    np.testing.assert_allclose(found[[20, -1]], [lr, 0.01 * lr], rtol=1e-6)


def test_the_optimiser_is_adamw_after_clipping():
    """Two steps by hand: g/‖g‖, moments (0.9, 0.999) with bias correction, decay 0.01, times the rate."""
    tool, w = optimiser(0.1, 10, 1.0, 0.01), np.array([1.0, -2.0], np.float32)
    state, gradients = tool.init(w), (np.array([3.0, 4.0]), np.array([0.3, 0.0]))
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        change, state = tool.update(g.astype(np.float32), state, w)
        clipped = g / max(1.0, np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * clipped, 0.999 * v + 0.001 * clipped**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + 0.01 * w
        np.testing.assert_allclose(change, -float(rate(0.1, 10, t - 1)) * step, rtol=1e-4, atol=1e-9)
        w = np.asarray(optax.apply_updates(w, change))


@pytest.fixture
def folder(tmp_path):
    """The files of a model of two layers, but for what is in its weights."""

    def make(name="m", words=10, **changes):
        from nail.lm.folders import Sizes

        path = tmp_path / name
        path.mkdir()
        config = hub_config(Sizes(2, 12, 8, 16, 2, 4, 1, 512, 10_000, 1_000_000), (1, 5)) | changes
        vocabulary = {f"w{i}": i for i in range(words)}
        (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
        (path / "model.safetensors").write_bytes(b"x")
        return path

    return make


def test_a_folder_is_read_from_its_json_files(folder):
    found = read_folder(folder(), "student")
    assert found.sizes[:5] == (2, 12, 8, 16, 2)
    assert (found.sizes.local_base_frequency, found.sizes.global_base_frequency) == (10_000, 1_000_000)
    assert found.stops == (1, 5)
    (found.path / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert read_folder(found.path, "student").stops == (7,)
    require_tokenizer_fits(found, "student")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "llama"}, "model_type of .* must be gemma3_text or gemma3, got 'llama'"),
        ({"hidden_size": None}, "must have the sizes of a Gemma-3 text model, and lacks 'hidden_size'"),
        ({"hidden_size": "wide"}, "must have the sizes"),
        ({"hidden_size": 0}, "sizes in .* must be above 0"),
        ({"query_pre_attn_scalar": 168}, r"query_pre_attn_scalar in .* must be head_dim \(4\), got 168"),
        ({"layer_types": ["full_attention"] * 2}, "full attention in every 6th layer only"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "heads in .* must be a multiple"),
        ({"eos_token_id": None}, "eos_token_id of .* must be tokens below the model's vocabulary of 12"),
        ({"eos_token_id": [99]}, "eos_token_id"),
    ],
)
def test_a_model_that_the_engine_would_compute_wrongly_is_a_sentence(folder, changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        read_folder(folder(**changes), "student")


def test_folders_that_lack_something_or_do_not_fit(folder, tmp_path):
    with pytest.raises(BadInput, match="student must be a folder of a model"):
        read_folder(tmp_path / "none", "student")
    for name, what in (
        ("config.json", "a? ?configuration"),
        ("tokenizer.json", "a tokenizer"),
        ("model.safetensors", "weights"),
    ):
        path = folder(f"without-{name}")
        (path / name).unlink()
        with pytest.raises(BadInput, match=f"student must be a folder with {what}"):
            read_folder(path, "student")
    damaged = folder("damaged")
    (damaged / "config.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_folder(damaged, "student")
    plain = read_folder(folder("plain"), "student")
    with pytest.raises(BadInput, match=r"largest token of the tokenizer of student must be below .* 12, got 19"):
        require_tokenizer_fits(read_folder(folder("large", words=20), "student"), "student")
    with pytest.raises(BadInput, match="the same vocabulary, and have 12 and 13 tokens"):
        require_same_vocabulary(plain, read_folder(folder("more", vocab_size=13), "expert"))
    with pytest.raises(BadInput, match="the same tokenizer, and their tokens differ"):
        require_same_vocabulary(plain, read_folder(folder("other", words=9), "expert"))
    require_same_vocabulary(plain, plain)


def test_the_identity_sees_what_is_in_the_files(folder):
    path = folder()
    before = content_of(path)
    (path / "notes.txt").write_text("x")
    assert content_of(path) == before
    (path / "model.safetensors").write_bytes(b"y")
    assert content_of(path) != before
