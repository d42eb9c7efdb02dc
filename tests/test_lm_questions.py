"""Files of questions, and word problems that the package makes."""

import re

import pytest

from nail.checks import BadInput
from nail.lm.answers import extracted, same, truth
from nail.lm.problems import ALL_STEPS, DEFAULT, Limits, problems, templates, vocabulary
from nail.lm.questions import Question, read_questions, write_questions


def test_questions_are_read_as_written(tmp_path):
    asked = [Question("How many\nducks’ eggs?", "2+3 = 5\n#### 5"), Question("a")]
    assert read_questions(write_questions(tmp_path / "q.jsonl", asked)) == asked
    (tmp_path / "gaps.jsonl").write_text('\ufeff{"question": "a", "more": 1}\n\n{"question": "b"}\r\n\n')
    assert [q.question for q in read_questions(tmp_path / "gaps.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "q.jsonl must hold at least one question, and it is empty"),
        ("\n \n", "must hold at least one question"),
        ('{"question": "a"}\n\n{"question": ', "line 3 of .*q.jsonl must be a JSON object, and it is not JSON"),
        ('{"question": "a"}\n["b"]', 'line 2 of .*q.jsonl must be a JSON object with a "question"'),
        ('{"answer": "a"}', 'line 1 of .*q.jsonl must have a "question" that is a text, got None'),
        ('{"question": " "}', "line 1 .* got ' '"),
        ('{"question": 3}', "line 1 .* got 3"),
        ('{"question": "a", "answer": 3}', 'line 1 of .*q.jsonl must have an "answer" that is a text, got 3'),
        ("[" * 100_000, "line 1 of .* not JSON"),
        (b"\xff\xfe\x00", "in UTF-8"),
    ],
)
def test_damage_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "q.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=sentence) as raised:
        read_questions(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_must_have_answers(tmp_path):
    path = write_questions(tmp_path / "q.jsonl", [Question("a", "x #### 1"), Question("b", "no mark")])
    assert len(read_questions(path)) == 2
    with pytest.raises(BadInput, match=r"line 2 of .*q\.jsonl: an answer must end with ####"):
        read_questions(path, answered=True)
    with pytest.raises(BadInput, match="there is no such file"):
        read_questions(tmp_path / "none.jsonl")


@pytest.mark.parametrize("limits", [DEFAULT, Limits(32, 9), Limits(32, 5)])
def test_problems_say_what_is_true(limits):
    """The chain is recomputed from the question's own numbers, and its box is the answer that the file states."""
    words = set(vocabulary(limits))
    assert len(words) == len(vocabulary(limits)) < 600
    largest = 0
    for split in ("train", "test"):
        for problem in problems(400, 3, split, limits):
            first, *amounts = map(int, re.findall(r"\d+", problem.question))
            x = first
            for name, b in zip(problem.template, amounts, strict=True):
                (step,) = [step for step in ALL_STEPS if step.name == name]
                assert f" {x} {step.sign} {b} = {eval(f'{x}{step.sign}{b}')} ." in problem.chain
                x = eval(f"{x}{step.sign}{b}")
                assert 1 <= x <= limits.largest
                assert b <= limits.at_once
                largest = max(largest, x)
            assert x == problem.answer
            asked = problem.as_question()
            assert same(extracted(problem.chain), truth(asked.answer))
            assert set(f"{asked.question} {asked.answer}".split()) <= words
    assert largest > 0.9 * limits.largest


def test_templates_of_training_and_test_are_disjoint():
    """Each single step occurs in both; problems come from the templates of their part."""
    train, test = templates("train"), templates("test")
    assert not set(train) & set(test)
    assert len(train) + len(test) == sum(len(ALL_STEPS) ** n for n in (2, 3, 4))
    assert len(test) > 100
    assert {step for steps in train for step in steps} == set(ALL_STEPS) == {step for steps in test for step in steps}
    for split, known in (("train", train), ("test", test)):
        names = {tuple(step.name for step in steps) for steps in known}
        assert {problem.template for problem in problems(300, 0, split)} <= names


def test_problems_are_a_function_of_the_seed():
    assert problems(5, 1, "train") == problems(9, 1, "train")[:5]
    assert problems(5, 1, "train") != problems(5, 2, "train")
    small = (Limits(31, 9), Limits(1000, 9), Limits(32, 4), Limits(32, 33))
    for wrong in ((0, 0, "train"), (1, -1, "train"), (1, 2**31, "train"), *((1, 0, "train", each) for each in small)):
        with pytest.raises(BadInput):
            problems(*wrong)
