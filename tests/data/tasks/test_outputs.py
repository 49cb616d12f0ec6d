"""What is made of outputs: submission files, baselines, surveys, and the command that shows a task."""

import json

import pytest

from data.errors import UserError
from data.tasks import FileSource, get_task
from data.tasks.__main__ import main
from data.tasks.baseline import majority
from data.tasks.outputs import line, read
from data.tasks.submission import GLUE, SUPERGLUE, write_submission
from data.tasks.survey import check, survey
from tests.data.fakes import vocabulary, vocabulary_model

pytestmark = pytest.mark.usefixtures("fresh_registry")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def outputs(name, records, texts):
    task = get_task(name)
    examples = [example for record in records for example in task.format(record, evaluate=True)]
    return {name: (task, examples, texts)}


def written(benchmark, name, records, texts, folder):
    done = write_submission(benchmark, outputs(name, records, texts), str(folder))
    return (folder / done.files[0]).read_text(), done


PAIRS = [
    {"sentence1": "a", "sentence2": "b", "premise": "p", "hypothesis": "h", "sentence": "s", "idx": i} for i in range(3)
]


@pytest.mark.parametrize(
    ("name", "texts", "column"),
    [
        ("glue_cola", ["acceptable", "unacceptable", "?"], ["1", "0", "0"]),
        ("glue_rte", ["entailment", "not_entailment", "?"], ["entailment", "not_entailment", "entailment"]),
        ("glue_mnli_mismatched", ["neutral", "contradiction", "?"], ["neutral", "contradiction", "entailment"]),
        ("glue_stsb", ["3.6", "7", "?"], ["3.6", "5.0", "0.0"]),
    ],
)
def test_glue_files_are_tables_of_index_and_prediction(name, texts, column, tmp_path):
    text, done = written("glue", name, PAIRS, texts, tmp_path)
    assert text == "index\tprediction\n" + "".join(f"{i}\t{value}\n" for i, value in enumerate(column))
    assert done.files == (GLUE[name][0],)
    assert done.invalid == {name: 1}
    assert set(done.missing) == set(GLUE) - {name}


def test_wnli_sends_whether_the_noun_matches(tmp_path):
    records = [
        {"sentence1": "Tom thanked Raj because he helped.", "sentence2": f"{who} helped.", "idx": i}
        for i, who in enumerate(("Raj", "Tom"))
    ]
    text, _ = written("glue", "glue_wnli", records, ["Raj", "Raj"], tmp_path)
    assert text == "index\tprediction\n0\t1\n1\t0\n"


@pytest.mark.parametrize(
    ("name", "record", "texts", "labels"),
    [
        ("superglue_boolq", {"passage": "p", "question": "q"}, ["True", "False", "?"], [True, False, False]),
        (
            "superglue_copa",
            {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause"},
            ["choice1", "choice2", "?"],
            [0, 1, 0],
        ),
        (
            "superglue_cb",
            {"premise": "p", "hypothesis": "h"},
            ["neutral", "contradiction", "?"],
            ["neutral", "contradiction", "entailment"],
        ),
        (
            "superglue_wsc",
            {"text": "Al fell as he ran.", "target": {"span1_text": "Al", "span2_text": "he", "span2_index": 3}},
            ["al", "bo", ""],
            [True, False, False],
        ),
    ],
)
def test_superglue_files_are_lines_of_idx_and_label(name, record, texts, labels, tmp_path):
    text, done = written("superglue", name, [{**record, "idx": i} for i in (5, 6, 7)], texts, tmp_path)
    assert [json.loads(line) for line in text.splitlines()] == [
        {"idx": i, "label": label} for i, label in zip((5, 6, 7), labels, strict=True)
    ]
    assert done.files == (SUPERGLUE[name][0],)
    assert done.invalid == {name: 1}


def test_multirc_is_nested_and_record_is_by_query(tmp_path):
    passage = {
        "text": "T.",
        "questions": [{"idx": 4, "question": "Q?", "answers": [{"idx": 5, "text": "a"}, {"idx": 6, "text": "b"}]}],
    }
    text, _ = written("superglue", "superglue_multirc", [{"idx": 3, "passage": passage}], ["True", "False"], tmp_path)
    assert json.loads(text) == {
        "idx": 3,
        "passage": {"questions": [{"idx": 4, "answers": [{"idx": 5, "label": True}, {"idx": 6, "label": False}]}]},
    }
    record = {"idx": 3, "passage": {"text": "Al.", "entities": []}, "qas": [{"idx": 9, "query": "q"}]}
    text, _ = written("superglue", "superglue_record", [record], ["Al Örn"], tmp_path)
    assert text == '{"idx": 9, "label": "Al Örn"}\n'


def test_a_submission_of_the_wrong_task_or_size_is_refused(tmp_path):
    with pytest.raises(UserError, match="No task 'squad' in the glue submission"):
        write_submission("glue", {"squad": (get_task("squad"), [], [])}, str(tmp_path))
    with pytest.raises(UserError, match=r"No benchmark 'gleu': did you mean glue"):
        write_submission("gleu", {}, str(tmp_path))
    with pytest.raises(UserError, match="Task 'glue_cola': 1 outputs for 3 examples"):
        written("glue", "glue_cola", PAIRS, ["acceptable"], tmp_path)


def sourced(name, records, tmp_path):
    (tmp_path / f"{name}.jsonl").write_text(lines(records))
    return get_task(name).with_source(
        FileSource({"train": f"{tmp_path}/{name}.jsonl", "validation": f"{tmp_path}/{name}.jsonl"})
    )


def test_the_majority_class_is_the_best_constant_answer(tmp_path):
    sentences = [{"sentence": "s", "label": label} for label in (1, 1, 1, 0)]
    assert majority(sourced("glue_sst2", sentences, tmp_path)) == {"accuracy": 75.0}
    assert majority(sourced("glue_cola", sentences, tmp_path)) == {"matthews": 0.0}
    pairs = [{"sentence1": "a", "sentence2": "b", "label": score} for score in (1, 2, 3)]
    assert majority(sourced("glue_stsb", pairs, tmp_path)) == {"pearson": 0.0, "spearman": 0.0}
    target = {"span1_text": "Al", "span2_text": "he", "span2_index": 3}
    nouns = [{"text": "Al fell as he ran.", "target": target, "label": label} for label in (False, False, True)]
    assert majority(sourced("superglue_wsc", nouns, tmp_path))["accuracy"] == pytest.approx(200 / 3)
    translations = [{"en": "a", "de": "b"}]
    assert majority(sourced("wmt_ende", translations, tmp_path)) is None


def test_a_survey_counts_what_the_lengths_would_cut(tmp_path):
    words = vocabulary().decode(list(range(3, 60)))
    task = sourced("glue_sst2", [{"sentence": words * n, "label": 1} for n in (0, 1, 9, 1)], tmp_path)
    task = task.replaced(lengths=type(task.lengths)(inputs=200, targets=3))
    found = survey(task, "train", vocabulary(), show=1)
    lengths = [len(vocabulary().encode(f"sst2 sentence: {words * n}")) + 1 for n in (0, 1, 9, 1)]
    assert (found.records, found.examples, found.longest_inputs) == (4, 4, max(lengths))
    assert found.inputs_tokens == sum(lengths)
    assert found.inputs_cut == sum(length > 200 for length in lengths) == 1
    assert found.targets_cut == 4
    (warning,) = found.warnings
    assert "4 of 4 targets of task 'glue_sst2' are longer than its limit" in warning
    (shown,) = found.shown
    assert shown["inputs_ids"][-1] == 1
    assert len(shown["targets_ids"]) == 3
    assert not survey(task, "train", limit=2).whole
    assert survey(task, "train", limit=4).whole


def test_a_check_before_a_run_opens_every_task(tmp_path):
    good = sourced("glue_sst2", [{"sentence": "a", "label": 1}, {"sentence": "b"}], tmp_path)
    (found,) = check([good], limit=10)
    assert "1 of 2 examples of task 'glue_sst2', split 'train', have no label" in found.warnings[0]
    with pytest.raises(UserError, match="Task 'squad' has no source"):
        check([good, get_task("squad")])
    with pytest.raises(UserError, match="Task 'glue_wnli' is for evaluation alone"):
        check([get_task("glue_wnli")])
    target = {"span1_text": "Al", "span2_text": "he", "span2_index": 3}
    false = sourced("superglue_wsc", [{"text": "Al fell as he ran.", "target": target, "label": False}], tmp_path)
    with pytest.raises(UserError, match="Task 'superglue_wsc' makes no example of the 1 records of split 'train'"):
        check([false])
    assert [each.examples for each in check([false], split="validation")] == [1]


def test_show_prints_examples_counts_rates_and_baseline(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text(lines([{"text": f"t{i}", "label": i % 2} for i in range(3)]))
    (tmp_path / "t.model").write_bytes(vocabulary_model())
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n"
        + "".join(
            f"  {name}: {{source: {{train: rows.jsonl}}, inputs: 'go: {{text}}', labels: ['no', 'yes'], "
            "metrics: [accuracy]}\n"
            for name in ("one", "two")
        )
        + "mixtures: {both: {one: proportional, two: proportional}}\n"
    )
    shared = ["--tasks", f"{tmp_path}/tasks.yaml", "--vocabulary", f"{tmp_path}/t.model", "--baseline"]
    assert main(["show", "both", *shared, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["rates"] == {"one": 0.5, "two": 0.5}
    assert content["majority"]["one"]["accuracy"] == pytest.approx(200 / 3)
    assert [(each["records"], each["examples"]) for each in content["tasks"]] == [(3, 3), (3, 3)]
    assert content["tasks"][0]["shown"][1]["targets"] == "yes"
    assert main(["show", "both", *shared]) == 0
    assert "rate 0.5000  one, 3 examples, an epoch each 6 draws" in capsys.readouterr().out
    assert main(["show", "one", *shared, "--count", "1"]) == 0
    text = capsys.readouterr().out
    assert "one, split train: 3 records, 3 examples" in text
    assert "majority class of one: accuracy 66.67" in text
    assert main(["list", "--json"]) == 0
    assert "glue_cola" in json.loads(capsys.readouterr().out)["tasks"]


def test_outputs_at_rest_are_judged_once_each(tmp_path, capsys):
    examples = [
        get_task("superglue_boolq").format({"passage": "p", "question": "Größe", "label": label, "idx": i})[0]
        for i, label in enumerate((True, False, True))
    ]
    texts = ["True", "True", "maybe"]
    lines_of_outputs = [line(example, text) for example, text in zip(examples, texts, strict=True)]
    path = tmp_path / "superglue_boolq.jsonl"
    path.write_text("".join([*lines_of_outputs, lines_of_outputs[0]]), encoding="utf-8")
    assert read(str(path)) == (examples, texts)
    assert main(["judge", "superglue_boolq", "--outputs", str(path), "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (judged["examples"], judged["score"]) == (3, pytest.approx(100 / 3))
    assert main(["submit", "superglue", "--outputs", str(tmp_path), "--to", f"{tmp_path}/sent"]) == 0
    assert "superglue_boolq: 1 outputs are no label" in capsys.readouterr().out
    assert (tmp_path / "sent" / "BoolQ.jsonl").read_text().splitlines()[0] == '{"idx": 0, "label": true}'
    path.write_text(lines_of_outputs[0] + line(examples[0], "False"), encoding="utf-8")
    assert main(["judge", "superglue_boolq", "--outputs", str(path)]) == 2
    assert "has another output for example '0' than before" in capsys.readouterr().err
    path.write_text('{"inputs": "a"}\n')
    assert main(["judge", "superglue_boolq", "--outputs", str(path)]) == 2
    assert "line 1 is no output" in capsys.readouterr().err
    assert main(["submit", "glue", "--outputs", str(tmp_path), "--to", f"{tmp_path}/sent"]) == 2
    assert "holds outputs of no glue task" in capsys.readouterr().err


def test_import_and_show_work_on_published_files(tmp_path, capsys):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n1\tC.\n")
    place = ["--source", str(tmp_path), "--to", f"{tmp_path}/data/glue_rte"]
    assert main(["import", "glue_rte", *place]) == 0
    assert "glue_rte train: 1 records, 1 examples, 1 left out\n  left out: " in capsys.readouterr().out
    assert main(["show", "glue_rte", "--task-data", f"{tmp_path}/data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["shown"][0]["inputs"] == "rte sentence1: A. sentence2: B."
    assert main(["show", "glue_rte", "--source", f"{tmp_path}/data/glue_rte"]) == 0
    assert main(["show", "glue_rt"]) == 2
    assert "error: No task or mixture 'glue_rt': did you mean glue_rte" in capsys.readouterr().err
