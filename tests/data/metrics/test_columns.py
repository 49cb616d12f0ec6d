"""The columns against the averages that the paper prints (fact sheet, sections 5.6 and 8)."""

import pytest

from data.errors import UserError
from data.metrics.columns import best_steps, column, columns


def glue(cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli=None):
    results = {
        "glue_cola": {"matthews": cola},
        "glue_sst2": {"accuracy": sst2},
        "glue_mrpc": dict(zip(("f1", "accuracy"), mrpc, strict=True)),
        "glue_stsb": dict(zip(("pearson", "spearman"), stsb, strict=True)),
        "glue_qqp": dict(zip(("f1", "accuracy"), qqp, strict=True)),
        "glue_mnli": {"accuracy": mnli[0]},
        "glue_mnli_mismatched": {"accuracy": mnli[1]},
        "glue_qnli": {"accuracy": qnli},
        "glue_rte": {"accuracy": rte},
    }
    return results if wnli is None else {**results, "glue_wnli": {"accuracy": wnli}}


def superglue(boolq, cb, copa, multirc, record, rte, wic, wsc):
    return {
        "superglue_boolq": {"accuracy": boolq},
        "superglue_cb": dict(zip(("macro_f1", "accuracy"), cb, strict=True)),
        "superglue_copa": {"accuracy": copa},
        "superglue_multirc": dict(zip(("f1", "exact_match"), multirc, strict=True)),
        "superglue_record": dict(zip(("f1", "exact_match"), record, strict=True)),
        "superglue_rte": {"accuracy": rte},
        "superglue_wic": {"accuracy": wic},
        "superglue_wsc": {"accuracy": wsc},
    }


BASELINE_GLUE = glue(53.84, 92.68, (92.07, 88.92), (88.02, 87.94), (88.67, 91.56), (84.24, 84.57), 90.48, 76.28)
BASELINE_SUPERGLUE = superglue(76.62, (91.22, 91.96), 66.20, (66.13, 25.78), (69.05, 68.16), 75.34, 68.04, 78.56)


def test_the_baselines_columns_are_those_of_table_1():
    assert round(column("GLUE", BASELINE_GLUE), 3) == 83.284
    assert round(column("SGLUE", BASELINE_SUPERGLUE), 3) == 71.364


@pytest.mark.parametrize(
    ("average", "results"),
    [
        (77.44, glue(41.0, 91.8, (89.7, 86.6), (85.6, 85.0), (70.0, 88.0), (82.4, 82.3), 90.3, 69.9, 69.2)),
        (90.31, glue(71.6, 97.5, (92.8, 90.4), (93.1, 92.8), (75.1, 90.6), (92.2, 91.9), 96.9, 92.8, 94.5)),
    ],
)
def test_the_test_average_counts_wnli(average, results):
    assert round(column("GLUE test", results), 2) == average


@pytest.mark.parametrize(
    ("average", "results"),
    [
        (63.25, superglue(76.4, (56.9, 81.6), 46.0, (69.3, 26.3), (56.3, 55.4), 73.3, 66.9, 70.5)),
        (89.25, superglue(91.2, (93.9, 96.8), 94.8, (88.1, 63.3), (94.1, 93.4), 92.5, 76.9, 93.8)),
    ],
)
def test_superglues_average_is_table_14s(average, results):
    assert round(column("SGLUE", results), 2) == average


def test_single_columns_take_the_tables_metric():
    results = {
        "squad": {"exact_match": 80.88, "f1": 88.81},
        "cnn_dailymail": {"rouge1": 41.33, "rouge2": 19.24, "rougeLsum": 38.77},
        "wmt_ende": {"bleu": 26.98},
    }
    assert columns(results) == {"CNNDM": 19.24, "SQuAD": 80.88, "EnDe": 26.98}


def test_a_column_names_what_it_lacks():
    lacking = {name: value for name, value in BASELINE_GLUE.items() if name != "glue_mnli_mismatched"}
    with pytest.raises(UserError, match="Column GLUE needs glue_mnli_mismatched accuracy"):
        column("GLUE", lacking)
    with pytest.raises(UserError, match=r"No column 'SQUAD': did you mean SQuAD"):
        column("SQUAD", {})


def test_each_column_chooses_its_own_checkpoint():
    history = {
        5000: {"squad": {"exact_match": 70.0, "f1": 90.0}, "wmt_ende": {"bleu": 20.0}},
        10000: {"squad": {"exact_match": 72.0, "f1": 80.0}, "wmt_ende": {"bleu": 19.0}},
        15000: {"squad": {"exact_match": 72.0, "f1": 99.0}},
    }
    assert best_steps(history) == {"SQuAD": (10000, 72.0), "EnDe": (5000, 20.0)}
