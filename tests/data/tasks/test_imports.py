"""Published files become examples corpora: every format, bad rows counted, nothing left behind by a broken import."""

import gzip
import hashlib
import json

import pytest

from data.corpus import Corpus
from data.errors import BudgetExceeded, UserError
from data.tasks import CorpusSource, FileSource, Task, get_task
from data.tasks.imports import import_task
from data.tasks.published import published_names
from data.tasks.steps import Template
from data.tasks.study import SUPERVISED


def put(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def imported(name, folder, tmp_path, **options):
    found = import_task(get_task(name), folder, str(tmp_path / "corpus"), **options)
    task = get_task(name).with_source(CorpusSource(str(tmp_path / "corpus")))
    return task, {split: (report.records, report.examples, report.skipped) for split, report in found.items()}


GLUE = {
    "glue_cola": (
        {"train_dot_tsv": "gj\t1\t\tIt rains.\ngj\t0\t*\tRains it.\n", "test_dot_tsv": "index\tsentence\n0\tSo.\n"},
        "cola sentence: It rains.",
        "acceptable",
    ),
    "glue_sst2": (
        {"train_dot_tsv": "sentence\tlabel\na warm film \t1\nhm\t0\n", "test_dot_tsv": "index\tsentence\n0\tok\n"},
        "sst2 sentence: a warm film ",
        "positive",
    ),
    "glue_mrpc": (
        {"train_dot_tsv": 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t5\t6\t"A b.\tB "a.\n0\t1\t2\tx\ty\n'},
        'mrpc sentence1: "A b. sentence2: B "a.',
        "equivalent",
    ),
    "glue_stsb": (
        {"train_dot_tsv": "index\tgenre\tsentence1\tsentence2\tscore\n0\tg\tA.\tB.\t3.67\n1\tg\tC.\tD.\t0\n"},
        "stsb sentence1: A. sentence2: B.",
        "3.6",
    ),
    "glue_qqp": (
        {
            "train_dot_tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
            "7\t1\t2\tA?\tB?\t1\n8\t3\t4\tC?\tD?\t0\n"
        },
        "qqp question1: A? question2: B?",
        "duplicate",
    ),
    "glue_mnli": (
        {
            "train_dot_tsv": "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tP.\tH.\tneutral\tentailment\n"
            "1\tP.\tH.\tneutral\tneutral\n",
            "dev_matched_dot_tsv": "index\tsentence1\tsentence2\tgold_label\n0\tP.\tH.\tneutral\n",
            "dev_mismatched_dot_tsv": "index\tsentence1\tsentence2\tgold_label\n0\tP.\tH.\tneutral\n",
        },
        "mnli hypothesis: H. premise: P.",
        "entailment",
    ),
    "glue_qnli": (
        {"train_dot_tsv": "index\tquestion\tsentence\tlabel\n0\tQ?\tS.\tnot_entailment\n1\tQ?\tS.\tentailment\n"},
        "qnli question: Q? sentence: S.",
        "not_entailment",
    ),
    "glue_rte": (
        {"train_dot_tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n1\tA.\tC.\tnot_entailment\n"},
        "rte sentence1: A. sentence2: B.",
        "entailment",
    ),
}


@pytest.mark.parametrize("name", GLUE)
def test_glues_tables_are_read_as_published(name, tmp_path):
    files, inputs, targets = GLUE[name]
    folder = {"glue_sst2": "SST-2", "glue_stsb": "STS-B"}.get(name, name.removeprefix("glue_").upper())
    put(tmp_path / "published" / folder.replace("COLA", "CoLA"), **files)
    task, counts = imported(name, tmp_path / "published", tmp_path)
    assert counts["train"] == (2, 2, 0)
    first = next(iter(task.examples("train")))
    assert (first.inputs, first.targets, first.id) == (inputs, targets, "0")
    if "test" in counts:
        assert next(iter(task.examples("test", evaluate=True))).targets == "<unk>"


def test_mnlis_second_validation_set_is_a_task_of_its_own(tmp_path):
    put(tmp_path / "MNLI", **GLUE["glue_mnli"][0])
    task, counts = imported("glue_mnli_mismatched", tmp_path, tmp_path)
    assert counts == {"validation": (1, 1, 0)}
    assert next(iter(task.examples("validation"))).targets == "neutral"


def test_colas_public_release_joins_its_two_development_sets(tmp_path):
    put(
        tmp_path / "raw",
        in_domain_train_dot_tsv="a\t1\t\tX.\n",
        in_domain_dev_dot_tsv="a\t1\t\tY.\n",
        out_of_domain_dev_dot_tsv="b\t0\t*\tZ.\n",
    )
    task, counts = imported("glue_cola", tmp_path / "raw", tmp_path)
    assert counts == {"train": (1, 1, 0), "validation": (2, 2, 0)}
    assert [(e.id, e.targets) for e in task.examples("validation")] == [("0", "acceptable"), ("1", "unacceptable")]


def test_rows_that_cannot_be_used_are_left_out_counted_and_limited(tmp_path):
    lines = [
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "7\t1\t2\tA?\tB?\t1",
        "8\t3\t4\tC?",
        "9\t3\t4\tC?\tD?\tmaybe",
    ]
    put(tmp_path / "QQP", train_dot_tsv="\n".join(lines) + "\n")
    found = import_task(get_task("glue_qqp"), tmp_path, str(tmp_path / "corpus"))
    assert (found["train"].records, found["train"].skipped) == (1, 2)
    assert found["train"].problems[0].endswith("train.tsv, line 3: it has 4 columns, not 6")
    assert "label 'maybe' is neither" in found["train"].problems[1]
    with pytest.raises(
        BudgetExceeded, match=r"More than 1 rows of task 'glue_qqp' cannot be used, the last one .*line 4"
    ):
        import_task(get_task("glue_qqp"), tmp_path, str(tmp_path / "strict"), bad_records=1)
    assert not list((tmp_path / "strict").rglob("*.tar"))
    with pytest.raises(UserError, match="holds a corpus already"):
        import_task(get_task("glue_qqp"), tmp_path, str(tmp_path / "corpus"))


SUPERGLUE = {
    "BoolQ": {"passage": "P.", "question": "q", "idx": 3, "label": True},
    "CB": {"premise": "P.", "hypothesis": "H.", "idx": 3, "label": "neutral"},
    "COPA": {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "idx": 3, "label": 0},
    "RTE": {"premise": "P.", "hypothesis": "H.", "idx": 3, "label": "entailment"},
    "WiC": {"word": "w", "sentence1": "A.", "sentence2": "B.", "idx": 3, "label": False},
    "WSC": {
        "text": "Al fell as he ran.",
        "idx": 3,
        "label": True,
        "target": {"span1_text": "Al", "span1_index": 0, "span2_text": "he", "span2_index": 3},
    },
    "MultiRC": {
        "idx": 3,
        "passage": {
            "text": "T.",
            "questions": [
                {
                    "idx": 4,
                    "question": "Q?",
                    "answers": [{"idx": 5, "text": "a", "label": 1}, {"idx": 6, "text": "b", "label": 0}],
                }
            ],
        },
    },
    "ReCoRD": {
        "idx": 3,
        "passage": {"text": "Al fell.", "entities": [{"start": 0, "end": 1}]},
        "qas": [
            {"idx": 4, "query": "@placeholder fell", "answers": [{"text": "Al"}]},
            {"idx": 5, "query": "@placeholder ran", "answers": [{"text": "Al"}, {"text": "Bo"}]},
        ],
    },
}


@pytest.mark.parametrize("name", SUPERGLUE)
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "folders"])
def test_superglues_lines_are_read_as_published(name, flat, tmp_path):
    published = tmp_path / "published"
    path = published / f"{name}.train.jsonl" if flat else published / name / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(SUPERGLUE[name]) + "\n")
    task, counts = imported(f"superglue_{name.lower()}", published, tmp_path)
    assert counts["train"][2] == 0
    direct = get_task(f"superglue_{name.lower()}").format(SUPERGLUE[name])
    assert list(task.examples("train")) == direct
    assert task.size() == len(direct)


def test_dpr_reads_its_groups_of_lines(tmp_path):
    text = (
        "The bee landed on the bud as it sang.\nit\nThe bee,the bud\nThe bee\n\n"
        "Broken.\nit\n\nA cook, he said.\nhe\nA cook,a\na cook\n"
    )
    put(tmp_path / "DPR", train_dot_c_dot_txt=text)
    task, counts = imported("superglue_dpr", tmp_path, tmp_path)
    assert counts == {"train": (1, 1, 2)}
    (example,) = task.examples("train")
    assert (example.inputs, example.targets) == ("wsc: The bee landed on the bud as *it* sang.", "The bee")


def test_squads_json_gives_a_record_a_question(tmp_path):
    content = {
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": "Ines built it.",
                        "qas": [
                            {"id": "a", "question": "Who?", "answers": [{"text": "Ines", "answer_start": 0}]},
                            {"id": "b", "question": "What?", "answers": [{"text": "it", "answer_start": 11}]},
                        ],
                    }
                ],
            }
        ]
    }
    put(
        tmp_path / "raw",
        **{"train-v1_dot_1_dot_json": json.dumps(content), "dev-v1_dot_1_dot_json": json.dumps(content)},
    )
    task, counts = imported("squad", tmp_path / "raw", tmp_path)
    assert counts == {"train": (2, 2, 0), "validation": (2, 2, 0)}
    assert [(e.id, e.targets) for e in task.examples("validation")] == [("a", "Ines"), ("b", "it")]
    put(tmp_path / "bad", **{"train-v1_dot_1_dot_json": "{}"})
    with pytest.raises(UserError, match="is not SQuAD's published JSON"):
        imported("squad", tmp_path / "bad", tmp_path / "other")


def test_stories_end_their_lines_and_join_their_highlights(tmp_path):
    address = "http://example.org/a"
    name = hashlib.sha1(address.encode()).hexdigest()
    story = 'The council met\n\nIt voted.\n\n@highlight\n\nCouncil votes\n\n@highlight\n\n"Work starts"\n'
    put(
        tmp_path / "raw",
        **{
            f"cnn__stories__{name}_dot_story": story,
            "url_lists__all_train_dot_txt": f"{address}\nhttp://example.org/absent\n",
        },
    )
    task, counts = imported("cnn_dailymail", tmp_path / "raw", tmp_path)
    assert counts == {"train": (1, 1, 1)}
    (example,) = task.examples("train")
    assert example.inputs == "summarize: The council met . It voted."
    assert (example.targets, example.id) == ('Council votes . "Work starts"', name)


def test_parallel_text_is_paired_by_name_and_held_out_by_set(tmp_path):
    def sgm(*lines):
        return (
            "<refset><doc>\n"
            + "".join(f'<seg id="{i}">{line}</seg>\n' for i, line in enumerate(lines))
            + "</doc></refset>\n"
        )

    raw = tmp_path / "raw"
    put(
        raw,
        **{
            "europarl_dot_de-en_dot_en": "Hello.\n\nBread &amp; salt.\n",
            "europarl_dot_de-en_dot_de": "Hallo.\nLeer.\nBrot.\n",
            "more_dot_en_dot_gz": gzip.compress(b"Yes.\r\n"),
            "more_dot_de_dot_gz": gzip.compress(b"Ja.\r\n"),
            "dev__newstest2013-src_dot_en_dot_sgm": sgm("A &amp; B", " C\n D "),
            "dev__newstest2013-ref_dot_de_dot_sgm": sgm("E", "F"),
            "dev__newstest2010_dot_en": "old\n",
            "dev__newstest2010_dot_de": "alt\n",
            "alone_dot_en": "x\n",
        },
    )
    task, counts = imported("wmt_ende", raw, tmp_path)
    assert counts == {"validation": (2, 2, 0), "train": (3, 3, 1)}
    assert [e.targets for e in task.examples("train")] == ["Hallo.", "Brot.", "Ja."]
    assert [e.inputs for e in task.examples("validation")] == [
        "translate English to German: A & B",
        "translate English to German: C D",
    ]
    put(raw, more_dot_de_dot_gz=gzip.compress(b"Ja.\nNein.\n"))
    with pytest.raises(UserError, match=r"more\.de\.gz goes on after line 1, where .*more\.en\.gz ends"):
        imported("wmt_ende", raw, tmp_path / "uneven")
    with pytest.raises(UserError, match=r"holds no parallel text NAME\.en with NAME\.fr"):
        imported("wmt_enfr", raw, tmp_path / "none")


def test_large_imports_are_cut_into_shards(tmp_path):
    put(tmp_path / "CoLA", train_dot_tsv="".join(f"gj\t1\t\tSentence {i}.\n" for i in range(50)))
    task, counts = imported("glue_cola", tmp_path, tmp_path, shard_bytes=20_000)
    assert counts["train"] == (50, 50, 0)
    corpus = Corpus.open(str(tmp_path / "corpus"))
    assert len(corpus.index.splits["train"]) > 2
    corpus.verify("train")
    assert [e.inputs for e in task.examples("train")] == [f"cola sentence: Sentence {i}." for i in range(50)]


def test_a_task_of_ones_own_is_imported_from_its_source(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": "x", "b": "y"}\n{"a": "z"}\n[]\n{"a": "v", "b": "w"}\n')
    own = Task("own", (Template("{a}", "{b}"),), source=FileSource({"train": f"{tmp_path}/rows.jsonl"}))
    found = import_task(own, None, str(tmp_path / "corpus"))
    assert (found["train"].records, found["train"].skipped) == (2, 2)
    assert "a record has no field 'b'" in found["train"].problems[0]
    task = own.with_source(CorpusSource(str(tmp_path / "corpus")))
    assert [(e.inputs, e.targets) for e in task.examples("train")] == [("x", "y"), ("v", "w")]
    with pytest.raises(UserError, match="Task 'squad' has no files of its own to import: give the folder"):
        import_task(get_task("squad"), None, str(tmp_path / "other"))


def test_every_task_of_the_study_can_be_imported():
    assert set(SUPERVISED.tasks()) < set(published_names())


def test_a_folder_without_the_tasks_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds none of train\.tsv, dev\.tsv, test\.tsv"):
        imported("glue_rte", tmp_path, tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        imported("glue_rte", tmp_path / "absent", tmp_path)
    put(tmp_path / "RTE", train_dot_tsv="index\tsentence1\tlabel\n0\tA\tentailment\n")
    with pytest.raises(UserError, match=r"No column 'sentence2' in .*train\.tsv: did you mean sentence1\?"):
        imported("glue_rte", tmp_path, tmp_path)
