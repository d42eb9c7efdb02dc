import csv

import pytest

from nail.cli.main import main
from nail.figures import experiment
from nail.methods import METHODS

SMALL = "--p 3 --m 3 --eta 0.2 --width 16 --heads 2 --layers 1 --batch 8 --lr 1e-3 --warmup 2 --n-validation 20".split()


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --p 1", "p must be an integer of at least 2, got 1"),
        ("train --m 0", "m must be"),
        ("train --eta 1", "eta must be in [0, 1), got 1.0"),
        ("train --beta 2", "beta must be in [0, 1], got 2.0"),
        ("train --temperature -1", "temperature must be"),
        ("train --width 64 --heads 5", "heads must be a divisor of the width (64), got 5"),
        ("train --batch 0", "batch must be"),
        ("train --steps 0", "steps must be"),
        ("train --seeds 0", "seeds must be"),
        ("train --method nail", "unknown method 'nail'; did you mean 'nail-r'"),
        ("train --out /proc/nail", "out must be a folder that can be written to"),
        ("train --expert nowhere", "expert must be oracle or a folder with a trained expert"),
        ("figure fig22", "unknown figure 'fig22'; did you mean 'fig2'?"),
        ("figure fig2 --preset gpu", "unknown preset 'gpu'"),
        ("bench --methods nail-g", "unknown method 'nail-g'; did you mean 'nail-f'?"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert sentence.split("did you")[0] in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_unknown_options_exit_with_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--learning-rate", "1"])
    assert stop.value.code == 2


def test_list_names_every_method_and_figure(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(row.name in printed and row.label in printed for row in METHODS)
    assert all(name in printed for name in experiment.names())


def test_train_writes_tidy_rows_and_resumes(tmp_path, capsys):
    arguments = ["train", *SMALL, "--method", "nail-f", "--steps", "6", "--eval-every", "3", "--seeds", "2"]
    arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    rows = rows_of(tmp_path / "out" / "rows.csv")
    assert [(r["seed"], r["step"]) for r in rows] == [(s, k) for s in "01" for k in "036"]
    columns = "method seed step episodes expert_queries full_exact answer_exact val_loss train_loss".split()
    assert set(columns) <= set(rows[0])
    before = (tmp_path / "out" / "rows.csv").read_bytes()
    assert main(arguments) == 0
    assert (tmp_path / "out" / "rows.csv").read_bytes() == before
    capsys.readouterr()
    assert main([*arguments, "--lr", "2e-3"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_trained_expert_is_kept_measured_and_refused(tmp_path, capsys):
    """Trained long enough it is perfect and taken; after three updates it is refused, unless asked for."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    size = ["--p", "2", "--m", "6", "--width", "32", "--heads", "2", "--warmup", "20", "--n-validation", "20"]
    train = ["expert", *size, "--lr", "3e-3", "--batch", "32", "--eval-every", "500"]
    assert main([*train, "--steps", "1000", "--out", str(good)]) == 0
    assert "full-chain accuracy 1.0000" in capsys.readouterr().out
    assert main([*train, "--steps", "3", "--out", str(bad)]) == 0
    use = ["train", *size, "--batch", "8", "--steps", "2", "--method", "loglossbc"]
    assert main([*use, "--expert", str(good), "--out", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    assert main([*use, "--expert", str(bad), "--out", str(tmp_path / "two")]) == 2
    assert "% of the validation prompts" in capsys.readouterr().err
    assert main([*use, "--expert", str(bad), "--allow-imperfect-expert", "--out", str(tmp_path / "three")]) == 0
    assert main(["train", "--p", "3", *use[3:], "--expert", str(good), "--out", str(tmp_path / "four")]) == 2
    assert "was trained with p 2, this run has p 3" in capsys.readouterr().err


def test_bench_smoke(tmp_path, capsys):
    out = tmp_path / "bench.csv"
    assert main(["bench", "--preset", "smoke", "--methods", "nail-f", "--seconds", "0.01", "--out", str(out)]) == 0
    (row,) = rows_of(out)
    assert float(row["step_over_products"]) > 1
    assert float(row["gflop_per_s"]) < float(row["products_gflop_per_s"])
    assert float(row["trajectories_per_s"]) == pytest.approx(16e3 / float(row["ms_per_step"]))
