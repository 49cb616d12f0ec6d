"""Every task's text against the fact sheet's worked examples (section 5.7), in the published records' fields."""

import pickle
import re

import numpy as np
import pytest

from data.errors import UserError
from data.tasks import Example, Lengths, Task, get_task, study, superglue
from data.tasks.steps import Template

WORKED = [
    (
        "glue_cola",
        {"sentence": "The kettle whistle loudly at noon.", "label": 0},
        "cola sentence: The kettle whistle loudly at noon.",
        "unacceptable",
    ),
    (
        "glue_sst2",
        {"sentence": "a warm and patient little comedy", "label": "1"},
        "sst2 sentence: a warm and patient little comedy",
        "positive",
    ),
    (
        "glue_mrpc",
        {
            "sentence1": "The mayor opened the bridge on Friday .",
            "sentence2": "On Friday the bridge was opened by the mayor .",
            "label": 1,
        },
        "mrpc sentence1: The mayor opened the bridge on Friday . "
        "sentence2: On Friday the bridge was opened by the mayor .",
        "equivalent",
    ),
    (
        "glue_stsb",
        {"sentence1": "A dog swims in a lake.", "sentence2": "A dog is in the water.", "label": "3.67"},
        "stsb sentence1: A dog swims in a lake. sentence2: A dog is in the water.",
        "3.6",
    ),
    (
        "glue_qqp",
        {"question1": "How do I sharpen a chisel?", "question2": "What is the best way to store paint?", "label": 0},
        "qqp question1: How do I sharpen a chisel? question2: What is the best way to store paint?",
        "not_duplicate",
    ),
    (
        "glue_mnli",
        {
            "premise": "The fair was packed from morning on.",
            "hypothesis": "Nobody came to the fair.",
            "label": "contradiction",
        },
        "mnli hypothesis: Nobody came to the fair. premise: The fair was packed from morning on.",
        "contradiction",
    ),
    (
        "glue_qnli",
        {
            "question": "When was the mill built?",
            "sentence": "The mill, built in 1741, stands by the river.",
            "label": 0,
        },
        "qnli question: When was the mill built? sentence: The mill, built in 1741, stands by the river.",
        "entailment",
    ),
    (
        "glue_rte",
        {
            "sentence1": "Lena moved to Oslo in May and works as a baker.",
            "sentence2": "Lena lives in Bergen.",
            "label": "not_entailment",
        },
        "rte sentence1: Lena moved to Oslo in May and works as a baker. sentence2: Lena lives in Bergen.",
        "not_entailment",
    ),
    (
        "glue_wnli",
        {"sentence1": "Tom thanked Raj because he had helped.", "sentence2": "Raj had helped.", "label": 1},
        "wsc: Tom thanked Raj because *he* had helped.",
        "Raj",
    ),
    (
        "superglue_boolq",
        {
            "passage": "Copper rivets are used on this bridge, but no steel.",
            "question": "is there steel in this bridge",
            "label": False,
        },
        "boolq passage: Copper rivets are used on this bridge, but no steel. question: is there steel in this bridge",
        "False",
    ),
    (
        "superglue_cb",
        {
            "hypothesis": "the shop was closed",
            "label": "entailment",
            "premise": "A: Did you get bread? B: I don't think the shop was open.",
        },
        "cb hypothesis: the shop was closed premise: A: Did you get bread? B: I don't think the shop was open.",
        "entailment",
    ),
    (
        "superglue_copa",
        {
            "premise": "She left the glass in the sun.",
            "choice1": "The ice melted.",
            "choice2": "The lamp broke.",
            "question": "effect",
            "label": 0,
        },
        "copa choice1: The ice melted. choice2: The lamp broke. premise: She left the glass in the sun. "
        "question: effect",
        "choice1",
    ),
    (
        "superglue_multirc",
        {
            "idx": 3,
            "passage": {
                "text": "<b>Sent 1: </b>Ana packed a scarf and a map.<br><b>Sent 2: </b>The scarf was red.<br>",
                "questions": [
                    {
                        "idx": 8,
                        "question": "What did Ana pack?",
                        "answers": [{"idx": 40, "text": "A red scarf", "label": 1}],
                    }
                ],
            },
        },
        "multirc question: What did Ana pack? answer: A red scarf "
        "paragraph: Sent 1: Ana packed a scarf and a map. Sent 2: The scarf was red.",
        "True",
    ),
    (
        "superglue_record",
        {
            "idx": 1,
            "passage": {
                "text": "Norsby lies on the Ilva. Marek runs the ferry.\n@highlight\nFloods are common in spring.",
                "entities": [{"start": 0, "end": 5}, {"start": 19, "end": 22}, {"start": 25, "end": 29}],
            },
            "qas": [
                {
                    "idx": 2,
                    "query": "The river @placeholder floods each spring.",
                    "answers": [{"start": 19, "end": 22, "text": "Ilva"}],
                }
            ],
        },
        "record query: The river @placeholder floods each spring. entities: Ilva, Marek, Norsby "
        "passage: Norsby lies on the Ilva. Marek runs the ferry. Floods are common in spring.",
        "Ilva",
    ),
    (
        "superglue_rte",
        {
            "premise": "The ferry arrived an hour after schedule.",
            "hypothesis": "The ferry was late.",
            "label": "entailment",
        },
        "rte hypothesis: The ferry was late. premise: The ferry arrived an hour after schedule.",
        "entailment",
    ),
    (
        "superglue_wic",
        {
            "word": "bank",
            "sentence1": "He sat on the bank of the stream.",
            "sentence2": "The bank raised its rates.",
            "label": False,
        },
        "wic sentence1: He sat on the bank of the stream. sentence2: The bank raised its rates. word: bank",
        "False",
    ),
    (
        "superglue_wsc",
        {
            "text": "The jar would not fit in the box because it was too wide.",
            "label": True,
            "target": {"span1_text": "The jar", "span1_index": 0, "span2_text": "it", "span2_index": 9},
        },
        "wsc: The jar would not fit in the box because *it* was too wide.",
        "The jar",
    ),
    (
        "superglue_dpr",
        {
            "sentence": "The cook called the waiter since he wanted help .",
            "pronoun": "he",
            "candidates": ["The cook", "the waiter"],
            "label": 0,
        },
        "wsc: The cook called the waiter since *he* wanted help .",
        "The cook",
    ),
    (
        "squad",
        {
            "question": "Who carved the door?",
            "context": "The oak door was carved by Ines Valdor in 1902.",
            "answers": ["Ines Valdor", "Valdor"],
            "id": "q1",
        },
        "question: Who carved the door ? context: The oak door was carved by Ines Valdor in 1902 .",
        "Ines Valdor",
    ),
    (
        "cnn_dailymail",
        {
            "article": "The town council voted on Monday to plant 400 trees along the ring road. …",
            "highlights": "Council votes to plant 400 trees .\nWork starts in spring .",
        },
        "summarize: The town council voted on Monday to plant 400 trees along the ring road. …",
        "Council votes to plant 400 trees . Work starts in spring .",
    ),
    (
        "wmt_ende",
        {"en": "The bread is still warm.", "de": "Das Brot ist noch warm."},
        "translate English to German: The bread is still warm.",
        "Das Brot ist noch warm.",
    ),
    (
        "wmt_enfr",
        {"en": "The bread is still warm.", "fr": "Le pain est encore chaud."},
        "translate English to French: The bread is still warm.",
        "Le pain est encore chaud.",
    ),
    (
        "wmt_enro",
        {"en": "The bread is still warm.", "ro": "Pâinea este încă caldă."},
        "translate English to Romanian: The bread is still warm.",
        "Pâinea este încă caldă.",
    ),
]


@pytest.mark.parametrize(("name", "record", "inputs", "targets"), WORKED, ids=[row[0] for row in WORKED])
def test_the_worked_example_has_its_exact_text(name, record, inputs, targets):
    (example,) = get_task(name).format(record)
    assert (example.inputs, example.targets) == (inputs, targets)


def test_every_trained_task_of_the_study_has_a_worked_example():
    covered = {row[0] for row in WORKED}
    assert covered >= {*study.SUPERVISED.tasks(), "glue_wnli"}


@pytest.mark.parametrize("name", ["glue_mnli", "glue_mnli_mismatched", "glue_ax"])
def test_the_inference_sets_share_one_text(name):
    (example,) = get_task(name).format({"premise": "P.", "hypothesis": "H.", "idx": 4})
    assert (example.inputs, example.targets, example.id) == ("mnli hypothesis: H. premise: P.", "<unk>", "4")


def test_the_diagnostic_sets_read_as_rte():
    (broad,) = get_task("superglue_axb").format({"sentence1": "P.", "sentence2": "H.", "label": "entailment"})
    (gender,) = get_task("superglue_axg").format({"premise": "P.", "hypothesis": "H.", "label": "not_entailment"})
    assert broad.inputs == gender.inputs == "rte hypothesis: H. premise: P."
    assert (broad.targets, gender.targets) == ("entailment", "not_entailment")


def test_the_appendix_form_differs_where_the_paper_prints_it_so():
    copa = {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1}
    wic = {"word": "bank", "pos": "N", "sentence1": "A.", "sentence2": "B.", "label": True}
    multirc = {
        "idx": 0,
        "passage": {
            "text": "<b>Sent 1: </b>It rains.<br>",
            "questions": [{"idx": 0, "question": "Dry?", "answers": [{"idx": 0, "text": "Yes", "label": 0}]}],
        },
    }
    squad = {"question": "Who?", "context": "Ines,  of course.", "answers": ["Ines"], "id": "q"}
    shown = {
        name: get_task(name, "appendix").format(record)[0]
        for name, record in (
            ("superglue_copa", copa),
            ("superglue_wic", wic),
            ("superglue_multirc", multirc),
            ("squad", squad),
        )
    }
    assert shown["superglue_copa"].targets == "True"
    assert get_task("superglue_copa").format(copa)[0].targets == "choice2"
    assert shown["superglue_wic"].inputs == "wic pos: N sentence1: A. sentence2: B. word: bank"
    assert shown["superglue_multirc"].inputs.endswith("paragraph: <b>Sent 1: </b>It rains.<br>")
    assert shown["squad"].inputs == "question: Who? context: Ines, of course."


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (3.67, "3.6"),
        ("5.000", "5.0"),
        (0, "0.0"),
        (0.1, "0.0"),
        (0.11, "0.2"),
        (2.5, "2.4"),
        (4.95, "5.0"),
        (None, "<unk>"),
        ("", "<unk>"),
        (-1, "<unk>"),
    ],
)
def test_similarity_is_printed_in_steps_of_a_fifth(score, text):
    (example,) = get_task("glue_stsb").format({"sentence1": "a", "sentence2": "b", "label": score})
    assert example.targets == text


@pytest.mark.parametrize(
    ("name", "fields", "label", "message"),
    [
        (
            "glue_cola",
            {"sentence": "x"},
            "2",
            "label '2' is neither one of unacceptable, acceptable nor a class id of 0 to 1",
        ),
        ("glue_cola", {"sentence": "x"}, "maybe", "label 'maybe' is neither"),
        ("glue_stsb", {"sentence1": "x", "sentence2": "y"}, 5.1, "label 5.1 is not a similarity between 0 and 5"),
        ("superglue_multirc", {"passage": {"questions": 5}, "idx": 1}, 0, "a record does not fit its format"),
        ("superglue_cb", {"hypothesis": "x"}, 0, "a record has no field 'premise'; it has hypothesis, label"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_name(name, fields, label, message):
    with pytest.raises(UserError, match=re.escape(f"Task {name!r}: {message}")):
        get_task(name).format({**fields, "label": label})


@pytest.mark.parametrize("label", [1, "1", True, "true", "True", 1.0])
def test_a_truth_label_may_be_spelled_in_any_of_the_published_ways(label):
    (example,) = get_task("superglue_boolq").format({"passage": "p", "question": "q", "label": label})
    assert example.targets == "True"


@pytest.mark.parametrize("label", [None, -1, "-1", ""])
def test_a_record_without_label_gets_the_unknown_target(label):
    (example,) = get_task("superglue_rte").format({"premise": "p", "hypothesis": "h", "label": label})
    assert example.targets == "<unk>"


RECORD = {
    "idx": 1,
    "passage": {
        "text": "Ilva said\n@highlight\nMarek left!\n@highlight\nBye",
        "entities": [{"start": 0, "end": 3}, {"start": 21, "end": 25}, {"start": 0, "end": 3}],
    },
    "qas": [
        {"idx": 2, "query": "@placeholder spoke", "answers": [{"text": "Marek"}, {"text": "Ilva"}, {"text": "Marek"}]},
        {"idx": 3, "query": "@placeholder slept", "answers": []},
        {"idx": 4, "query": "@placeholder ran"},
    ],
}


def test_record_is_expanded_by_answer_for_training_and_whole_for_evaluation():
    task = get_task("superglue_record")
    trained = task.format(RECORD)
    assert [(e.id, e.targets) for e in trained] == [
        ("1-2", "Ilva"),
        ("1-2", "Marek"),
        ("1-3", "<unk>"),
        ("1-4", "<unk>"),
    ]
    evaluated = task.format(RECORD, evaluate=True)
    assert [(e.id, e.answers) for e in evaluated] == [("1-2", ("Ilva", "Marek")), ("1-3", ()), ("1-4", ())]
    assert trained[0].inputs == (
        "record query: @placeholder spoke entities: Ilva, Marek passage: Ilva said. Marek left! Bye"
    )


def test_multirc_gives_one_example_an_answer_grouped_by_question():
    passage = {
        "text": "T.",
        "questions": [
            {
                "idx": 7,
                "question": "A?",
                "answers": [{"idx": 0, "text": "x", "label": 0}, {"idx": 1, "text": "y", "label": 1}],
            },
            {"idx": 8, "question": "B?", "answers": [{"idx": 2, "text": "z"}]},
        ],
    }
    examples = get_task("superglue_multirc").format({"idx": 5, "passage": passage})
    assert [(e.id, e.group, e.targets) for e in examples] == [
        ("5-7-0", "5-7", "False"),
        ("5-7-1", "5-7", "True"),
        ("5-8-2", "5-8", "<unk>"),
    ]


def test_records_taken_apart_format_as_the_nested_ones_do():
    for name, nested, apart in (("superglue_record", RECORD, superglue.queries_apart),):
        task = get_task(name)
        flat = [example for record in apart(nested) for example in task.format(record)]
        assert flat == task.format(nested)


def test_squad_spaces_every_ascii_sign_and_keeps_all_answers():
    published = {
        "paragraphs": [
            {
                "context": "It's (the) «U.S.»\n\nmap.",
                "qas": [
                    {"id": "q7", "question": "What's it?", "answers": [{"text": "U.S."}, {"text": "the U.S. map"}]}
                ],
            }
        ]
    }
    (example,) = get_task("squad").format(published)
    assert example.inputs == "question: What ' s it ? context: It ' s ( the ) «U . S . » map ."
    assert (example.targets, example.id) == ("U . S .", "q7")
    assert example.answers == ("U . S .", "the U . S . map")


def test_the_forms_of_public_table_files_are_read_too():
    pair = {"translation": {"en": "Yes.", "de": "Ja."}}
    assert get_task("wmt_ende").format(pair) == get_task("wmt_ende").format(pair["translation"])
    squad = {"question": "Who?", "context": "Ines.", "answers": {"text": ["Ines"], "answer_start": [0]}, "id": "q"}
    assert get_task("squad").format(squad)[0].answers == ("Ines",)
    wsc = {"text": "Al fell as he ran.", "span1_text": "Al", "span2_text": "he", "span2_index": 3, "label": 1}
    assert get_task("superglue_wsc").format(wsc)[0].inputs == "wsc: Al fell as *he* ran."


def test_encoding_cuts_to_the_length_with_the_end_mark_kept():
    class Letters:
        def encode_batch(self, texts):
            return [np.array([ord(letter) for letter in text], np.uint16) for text in texts]

    task = Task("t", (Template("{a}", "{b}"),), lengths=Lengths(inputs=4, targets=3))
    rows = task.encode([Example("abc", "de"), Example("abcd", "def"), Example("", "")], Letters())
    assert [(bytes(r.inputs.astype(np.uint8)), bytes(r.targets.astype(np.uint8))) for r in rows] == [
        (b"abc\x01", b"de\x01"),
        (b"abc\x01", b"de\x01"),
        (b"\x01", b"\x01"),
    ]
    assert [(r.inputs_cut, r.targets_cut) for r in rows] == [(False, False), (True, True), (False, False)]
    assert rows[0].inputs.dtype == np.uint16


def test_lengths_of_the_study():
    lengths = {
        name: (get_task(name).lengths.inputs, get_task(name).lengths.targets)
        for name in ("glue_cola", "superglue_wsc", "squad", "cnn_dailymail", "wmt_ende")
    }
    assert lengths == {
        "glue_cola": (512, 84),
        "superglue_wsc": (512, 62),
        "squad": (512, 97),
        "cnn_dailymail": (512, 512),
        "wmt_ende": (512, 512),
    }


def test_tasks_travel_to_other_processes():
    for name in study.SUPERVISED.tasks():
        assert pickle.loads(pickle.dumps(get_task(name))) == get_task(name)
