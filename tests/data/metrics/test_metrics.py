"""Metrics against worked numbers, naive loops and the libraries' own figures."""

import math

import numpy as np
import pytest

from data.errors import UserError
from data.metrics import METRICS, classification, libraries, metric
from data.metrics.answers import normalized, token_f1
from data.metrics.generation import sentence_lines
from data.metrics.grouped import GroupMean


def run(name, references, predictions, groups=None):
    groups = groups or [str(i) for i in range(len(references))]
    results = metric(name).compute(references, predictions, groups)
    assert tuple(results) == metric(name).results
    return results


def test_accuracy_counts_invalid_outputs_as_wrong():
    assert run("accuracy", [0, 1, 1, 0], [0, 1, -1, -1]) == {"accuracy": 50.0}


def test_binary_f1_reads_an_invalid_output_as_the_opposite():
    truth, given = [1, 1, 1, 0, 0, 0], [1, 1, -1, 1, 0, -1]
    # The invalid ones become 0 and 1: two true positives, two false positives, one false negative.
    assert run("f1", truth, given)["f1"] == pytest.approx(100 * 2 * 2 / (2 * 2 + 2 + 1))
    assert run("f1", [0, 0], [0, 0]) == {"f1": 0.0}


def test_macro_f1_is_the_mean_over_three_classes():
    truth, given = [0, 0, 1, 1, 2], [0, 1, 1, -1, 2]
    per_class = [2 * 1 / (2 * 1 + 0 + 1), 2 * 1 / (2 * 1 + 1 + 1), 1.0]
    assert run("macro_f1", truth, given)["macro_f1"] == pytest.approx(100 * sum(per_class) / 3)
    assert run("macro_f1", [0, 0], [0, 0])["macro_f1"] == pytest.approx(100 / 3)


def test_matthews_equals_its_formula_and_survives_invalid_outputs():
    truth, given = [1, 1, 1, 0, 0, 1, 0, 1], [1, 0, 1, 0, 1, 1, 0, 1]
    tp, tn, fp, fn = 4, 2, 1, 1
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert run("matthews", truth, given)["matthews"] == pytest.approx(100 * expected)
    assert run("matthews", truth, [1] * 8) == {"matthews": 0.0}
    assert 0 < run("matthews", truth, [-1, *given[1:]])["matthews"] < 100 * expected


def test_correlations_equal_numpys_and_are_zero_for_constants():
    truth, given = [1.0, 2.2, 3.4, 4.0, 0.0], [1.2, 2.0, -1.0, 4.4, 0.2]
    ranks = [np.argsort(np.argsort(side)) for side in (truth, given)]
    assert run("pearson", truth, given)["pearson"] == pytest.approx(100 * np.corrcoef(truth, given)[0, 1])
    assert run("spearman", truth, given)["spearman"] == pytest.approx(100 * np.corrcoef(*ranks)[0, 1])
    assert run("pearson", truth, [-1.0] * 5) == {"pearson": 0.0}
    assert run("spearman", [2.0], [2.0]) == {"spearman": 0.0}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The U.S. map", "us map"),
        ("An  apple,\na day!", "apple day"),
        ("Theatre", "theatre"),
        ("the", ""),
        ("U . S .", "u s"),
    ],
)
def test_answers_are_compared_in_squads_normal_form(text, normal):
    assert normalized(text) == normal


def test_token_f1_counts_words_as_bags():
    assert token_f1("red red scarf", "red scarf scarf") == pytest.approx(2 / 3)
    assert token_f1("red", "blue") == 0.0
    assert token_f1("", "") == 0.0


def test_question_answering_takes_the_best_answer():
    references = [("Ines Valdor", "Valdor"), ("in 1902",), ("the oak",)]
    results = run("question_answering", references, ["valdor", "1902", "Oak."])
    assert results["exact_match"] == pytest.approx(200 / 3)
    assert results["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)
    assert run("question_answering", references, ["", "", ""]) == {"exact_match": 0.0, "f1": 0.0}


def test_a_question_asked_for_each_answer_is_judged_once():
    references = [("a b",), ("a b",), ("c",)]
    results = run("question_answering_once", references, ["a b", "x", "y"], ["1-2", "1-2", "1-3"])
    assert results == {"exact_match": 50.0, "f1": 50.0}


def test_a_group_is_right_when_all_its_answers_are():
    truth, given, groups = [1, 0, 1, 1, 0], [1, 0, 1, 0, -1], ["a", "a", "b", "b", "c"]
    assert run("group_exact_match", truth, given, groups)["exact_match"] == pytest.approx(100 / 3)


def test_the_older_multirc_f1_averages_over_questions():
    truth, given, groups = [1, 0, 1, 1], [1, 1, 1, 0], ["a", "a", "b", "b"]
    assert run("group_f1", truth, given, groups)["f1"] == pytest.approx(100 * 2 / 3)
    assert run("f1", truth, given)["f1"] == pytest.approx(100 * 2 / 3)
    assert run("group_f1", [1, 0, 1], [1, 0, 0], ["a", "a", "b"])["f1"] == 50.0


def test_bleu_is_sacrebleus_and_keeps_its_signature():
    references = ["The bread is still warm.", "Mara's boat, the blue one, leaves at 10:30."]
    outputs = ["The bread is still warm .", "Mara's boat (the blue one) leaves at 10:30."]
    sacrebleu = pytest.importorskip("sacrebleu")
    expected = sacrebleu.corpus_bleu(
        outputs, [references], smooth_method="exp", smooth_value=0.0, tokenize="intl", use_effective_order=False
    )
    assert run("bleu", references, outputs)["bleu"] == pytest.approx(expected.score)
    assert run("bleu", references, references)["bleu"] == pytest.approx(100)
    assert run("bleu", references, ["", ""]) == {"bleu": 0.0}
    signature = metric("bleu").signature()
    assert {"nrefs:1", "case:mixed", "eff:no", "tok:intl", "smooth:exp"} <= set(signature.split("|"))


def test_rouge_breaks_sentences_and_repeats_its_figure():
    assert sentence_lines("Council votes . Work starts .") == "Council votes .\nWork starts ."
    rouge_score = pytest.importorskip("rouge_score.rouge_scorer")
    references = ["Council votes to plant trees . Work starts in spring .", "Rain is due ."]
    outputs = ["Work starts in spring . Council plants trees .", "Sun is due ."]
    scorer = rouge_score.RougeScorer(["rouge1", "rouge2", "rougeLsum"])
    state = np.random.get_state()[1].copy()
    results = run("rouge", references, outputs)
    assert (np.random.get_state()[1] == state).all()
    assert run("rouge", references, outputs) == results
    for name, value in results.items():
        pairs = [
            scorer.score(reference.replace(" . ", " .\n"), output.replace(" . ", " .\n"))[name].fmeasure
            for reference, output in zip(references, outputs, strict=True)
        ]
        assert 100 * min(pairs) <= value <= 100 * max(pairs)
        assert value == pytest.approx(100 * sum(pairs) / 2, abs=1e-6)
    assert run("rouge", references, references) == {"rouge1": 100.0, "rouge2": 100.0, "rougeLsum": 100.0}
    assert run("rouge", references, ["", ""]) == {"rouge1": 0.0, "rouge2": 0.0, "rougeLsum": 0.0}


@pytest.mark.parametrize(
    ("name", "references", "predictions", "groups", "value"),
    [
        ("macro_f1", [0, 1, 1, 2], [0, 0, 2, 2], None, 400 / 9),
        ("matthews", [0, 0, 2, 1], [0, 1, 2, 1], None, 70.0),
        ("spearman", [0, 2, 1], [0, 1, 2], None, 50.0),
        ("f1", [0, 1, 1, 0], [0, 1, 2, 2], None, 50.0),
        ("f1", [1, 1, 0], [1, 0, 1], ["a", "a", "b"], 50.0),
        ("accuracy", [0, 0, 2, 1], [0, 1, 2, 1], None, 75.0),
    ],
)
def test_small_cases_have_the_values_of_the_original_code(name, references, predictions, groups, value):
    (result,) = run(name, references, predictions, groups).values()
    assert result == pytest.approx(value, abs=5e-2)


def test_a_groups_mean_weighs_groups_alike():
    mean = GroupMean(classification.accuracy)
    assert mean([0, 1, 0], [0, 0, 1], ["a", "a", "b"]) == {"accuracy": 25.0}


def test_every_metric_says_what_makes_it_comparable():
    assert all(each.signature() for each in METRICS.values())
    assert metric("rouge").signature().startswith("rouge-score ")


def test_an_unknown_metric_is_answered_with_near_ones():
    with pytest.raises(UserError, match=r"No metric 'acuracy': did you mean accuracy\?"):
        metric("acuracy")


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setattr(libraries.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(UserError, match=r"needs scikit-learn: pip install 't5-orchestrator\[eval\]'"):
        run("matthews", [0, 1], [0, 1])
