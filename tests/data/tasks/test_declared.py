"""Own tasks and mixtures from YAML and Python: ten lines, and one sentence for each mistake."""

import json

import pytest
import yaml

from data.errors import UserError
from data.tasks import Mixture, get_mixture, get_task, load
from data.tasks.declared import declare

pytestmark = pytest.mark.usefixtures("fresh_registry")

TEN_LINES = """\
tasks:
  reviews:
    source: {train: reviews.jsonl, validation: reviews.jsonl}
    inputs: "review: {text}"
    labels: [negative, positive]
    metrics: [accuracy, f1]
    lengths: {inputs: 128, targets: 8}
mixtures:
  mine: {reviews: 3, glue_cola: proportional, superglue: 1}
"""


@pytest.fixture
def folder(tmp_path):
    rows = [{"text": f"number {i} of {{text}}", "label": i % 2, "key": f"k{i}"} for i in range(4)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks.yaml").write_text(TEN_LINES)
    return tmp_path


def test_ten_lines_make_a_task_and_a_mixture(folder):
    load(f"{folder}/tasks.yaml")
    load(f"{folder}/tasks.yaml")
    task = get_task("reviews")
    examples = list(task.examples("train"))
    assert examples[1].inputs == "review: number 1 of {text}"
    assert [example.targets for example in examples] == ["negative", "positive"] * 2
    assert task.evaluate(examples, ["negative", "positive", "positive", "?"]) == {
        "accuracy": 50.0,
        "f1": pytest.approx(100 / 2),
    }
    assert (task.lengths.inputs, task.lengths.targets, task.size()) == (128, 8, 4)
    mixture = get_mixture("mine")
    assert mixture.tasks()[:3] == ["reviews", "glue_cola", "superglue_boolq"]
    rates = mixture.rates(lambda task: 4.0)
    assert rates["reviews"] == pytest.approx(3 / 8)
    assert rates["glue_cola"] == pytest.approx(4 / 8)
    assert rates["superglue_cb"] == pytest.approx(1 / 8 / 9)


def test_free_text_numbers_and_answers_can_be_declared(folder):
    declare(
        {
            "tasks": {
                "ask": {
                    "source": {"train": "reviews.jsonl"},
                    "inputs": "{text}",
                    "targets": "{key}",
                    "id": "key",
                    "group": "label",
                    "answers": "key",
                    "metrics": ["question_answering"],
                    "best": ["f1"],
                },
                "rate": {"inputs": "{text}", "targets": "{label}", "outcome": "number", "metrics": ["pearson"]},
            }
        },
        str(folder),
    )
    task = get_task("ask")
    examples = list(task.examples("train"))
    assert [(e.id, e.group, e.answers) for e in examples][1] == ("k1", "1", ("k1",))
    results = task.evaluate(examples, ["k0", "k1", "k2", "none"])
    assert results == {"exact_match": 75.0, "f1": 75.0}
    assert task.score(results) == 75.0
    (example,) = get_task("rate").format({"text": "t", "label": 2})
    assert get_task("rate").outcome.prediction("x", example) == -1.0


def test_a_task_like_another_takes_its_format(folder):
    declare({"tasks": {"my_cola": {"like": "glue_cola", "source": {"train": "cola.jsonl"}, "lengths": {"targets": 9}}}})
    task = get_task("my_cola")
    assert task.format({"sentence": "x", "label": 0})[0].targets == "unacceptable"
    assert (task.name, task.lengths.targets, task.source.files) == ("my_cola", 9, {"train": "./cola.jsonl"})
    assert get_task("glue_cola").source is None
    declare({"tasks": {"my_copa": {"like": "superglue_copa", "form": "appendix"}}})
    choices = {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 1}
    assert get_task("my_copa").format(choices)[0].targets == "True"


def test_a_python_file_registers_its_own(tmp_path):
    (tmp_path / "own_tasks_for_test.py").write_text(
        "from data.tasks import Task, add_task\n"
        "def shout(record):\n"
        "    return None if record['text'] == '' else {'inputs': record['text'].upper(), 'targets': record['text']}\n"
        "add_task(Task('shout', (shout,)))\n"
    )
    load(f"{tmp_path}/own_tasks_for_test.py")
    assert get_task("shout").format({"text": "hey"})[0].inputs == "HEY"
    assert get_task("shout").format({"text": ""}) == []
    with pytest.raises(UserError, match="no Python module 'no_such_tasks_module'"):
        load("no_such_tasks_module")
    with pytest.raises(UserError, match="no Python file"):
        load(f"{tmp_path}/absent.py")


GOOD = {"inputs": "{text}", "targets": "{label}"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"task": {}}, r"No key 'task' in a file of tasks: did you mean tasks\?"),
        ({"tasks": {"t": {**GOOD, "metric": ["f1"]}}}, r"No key 'metric' in task 't': did you mean metrics\?"),
        ({"tasks": {"t": {**GOOD, "metrics": ["roug"]}}}, r"No metric 'roug': did you mean rouge\?"),
        ({"tasks": {"t": {"inputs": "x"}}}, "needs inputs, and either targets or labels"),
        ({"tasks": {"t": {**GOOD, "outcome": "nmber"}}}, r"No outcome 'nmber' in task 't': did you mean number\?"),
        ({"tasks": {"t": {**GOOD, "lengths": {"input": 3}}}}, "No key 'input' in the lengths of task 't'"),
        ({"tasks": {"t": {**GOOD, "lengths": {"inputs": 1}}}}, "each needs 2 tokens or more"),
        ({"tasks": {"t": {"inputs": "x", "labels": [False, True]}}}, "as YAML reads yes, no.*: quote the words"),
        ({"tasks": {"t": {"inputs": "x", "labels": "a"}}}, "are 'a': list their words by class id"),
        ({"tasks": {"t": {**GOOD, "source": "a.tsv"}}}, "is a file: name the split it is"),
        ({"tasks": {"t": {**GOOD, "source": {"train": "a.doc"}}}}, "ends in none of"),
        ({"tasks": {"t": {"like": "glue_colla"}}}, r"No task 'glue_colla': did you mean glue_cola"),
        ({"tasks": {"t": {"like": "glue_cola", "labels": ["a"]}}}, "takes no labels"),
        ({"tasks": {"t": {"like": "glue_cola", "form": "apendix"}}}, "No text form 'apendix': did you mean appendix"),
        ({"tasks": {"t": {**GOOD, "form": "code"}}}, "has a form but is like no other task"),
        ({"tasks": {"glue_cola": GOOD}}, "already a task 'glue_cola': give yours another name"),
        ({"tasks": {"glue": GOOD}}, "already a mixture 'glue'"),
        ({"tasks": ["t"]}, "not a mapping"),
        ({"mixtures": {"m": {"glue_colla": 1}}}, r"No task or mixture 'glue_colla': did you mean glue_cola"),
        ({"mixtures": {"m": {"glue_cola": "much"}}}, "gives 'glue_cola' the rate 'much'"),
        ({"mixtures": {"m": {"glue_cola": 0, "glue_rte": 0}}}, "rates of mixture 'm' sum to zero"),
        ({"mixtures": {"m": {"glue_cola": -1}}}, "has the rate -1: a rate is a number of 0 or more"),
        ({"mixtures": {"m": {}}}, "has no members"),
    ],
)
def test_each_mistake_is_named_in_one_sentence(content, message):
    with pytest.raises(UserError, match=message) as caught:
        declare(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: {t: {inputs: a, inputs: b}}", "'inputs' is given twice near line 1"),
        ("tasks: [", "is not YAML"),
        ("- a", "not a mapping"),
        ("tasks: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_damaged_yaml_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=f"bad.yaml.*{message}"):
        load(f"{tmp_path}/bad.yaml")


def test_a_template_reads_fields_and_nothing_else():
    declare({"tasks": {"t": {"inputs": "{a} {b.__class__} {} {{a}}", "targets": "{a}"}}})
    (example,) = get_task("t").format({"a": "{b}", "b": "x"})
    assert example.inputs == "{b} {b.__class__} {} {{b}}"
    with pytest.raises(UserError, match="a record has no field 'a'; it has b"):
        get_task("t").format({"b": "x"})


def test_a_mixtures_name_may_stand_in_for_a_task():
    assert get_mixture("squad") == Mixture("squad", (("squad", 1.0),))
    assert yaml.safe_load(TEN_LINES)["mixtures"]["mine"]["reviews"] == 3
