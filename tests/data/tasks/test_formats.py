"""Every task's text against the fact sheet's worked examples (section 5.7), in the published records' fields."""

import pytest

from data.tasks import get_task

WORKED = [
    ("glue_cola", {"sentence": "The kettle whistle loudly at noon.", "label": 0},
     "cola sentence: The kettle whistle loudly at noon.", "unacceptable"),
    ("glue_sst2", {"sentence": "a warm and patient little comedy", "label": "1"},
     "sst2 sentence: a warm and patient little comedy", "positive"),
    ("glue_mrpc",
     {"sentence1": "The mayor opened the bridge on Friday .",
      "sentence2": "On Friday the bridge was opened by the mayor .", "label": 1},
     "mrpc sentence1: The mayor opened the bridge on Friday . "
     "sentence2: On Friday the bridge was opened by the mayor .", "equivalent"),
    ("glue_stsb", {"sentence1": "A dog swims in a lake.", "sentence2": "A dog is in the water.", "label": "3.67"},
     "stsb sentence1: A dog swims in a lake. sentence2: A dog is in the water.", "3.6"),
    ("glue_qqp",
     {"question1": "How do I sharpen a chisel?", "question2": "What is the best way to store paint?", "label": 0},
     "qqp question1: How do I sharpen a chisel? question2: What is the best way to store paint?", "not_duplicate"),
    ("glue_mnli",
     {"premise": "The fair was packed from morning on.", "hypothesis": "Nobody came to the fair.",
      "label": "contradiction"},
     "mnli hypothesis: Nobody came to the fair. premise: The fair was packed from morning on.", "contradiction"),
    ("glue_qnli",
     {"question": "When was the mill built?", "sentence": "The mill, built in 1741, stands by the river.", "label": 0},
     "qnli question: When was the mill built? sentence: The mill, built in 1741, stands by the river.", "entailment"),
    ("glue_rte",
     {"sentence1": "Lena moved to Oslo in May and works as a baker.", "sentence2": "Lena lives in Bergen.",
      "label": "not_entailment"},
     "rte sentence1: Lena moved to Oslo in May and works as a baker. sentence2: Lena lives in Bergen.",
     "not_entailment"),
    ("glue_wnli",
     {"sentence1": "Tom thanked Raj because he had helped.", "sentence2": "Raj had helped.", "label": 1},
     "wsc: Tom thanked Raj because *he* had helped.", "Raj"),
    ("superglue_boolq",
     {"passage": "Copper rivets are used on this bridge, but no steel.", "question": "is there steel in this bridge",
      "label": False},
     "boolq passage: Copper rivets are used on this bridge, but no steel. question: is there steel in this bridge",
     "False"),
    ("superglue_cb",
     {"hypothesis": "the shop was closed", "label": "entailment",
      "premise": "A: Did you get bread? B: I don't think the shop was open."},
     "cb hypothesis: the shop was closed premise: A: Did you get bread? B: I don't think the shop was open.",
     "entailment"),
    ("superglue_copa",
     {"premise": "She left the glass in the sun.", "choice1": "The ice melted.", "choice2": "The lamp broke.",
      "question": "effect", "label": 0},
     "copa choice1: The ice melted. choice2: The lamp broke. premise: She left the glass in the sun. question: effect",
     "choice1"),
    ("superglue_multirc",
     {"idx": 3, "passage": {
         "text": "<b>Sent 1: </b>Ana packed a scarf and a map.<br><b>Sent 2: </b>The scarf was red.<br>",
         "questions": [{"idx": 8, "question": "What did Ana pack?",
                        "answers": [{"idx": 40, "text": "A red scarf", "label": 1}]}]}},
     "multirc question: What did Ana pack? answer: A red scarf "
     "paragraph: Sent 1: Ana packed a scarf and a map. Sent 2: The scarf was red.", "True"),
    ("superglue_record",
     {"idx": 1, "passage": {
         "text": "Norsby lies on the Ilva. Marek runs the ferry.\n@highlight\nFloods are common in spring.",
         "entities": [{"start": 0, "end": 5}, {"start": 19, "end": 22}, {"start": 25, "end": 29}]},
      "qas": [{"idx": 2, "query": "The river @placeholder floods each spring.",
               "answers": [{"start": 19, "end": 22, "text": "Ilva"}]}]},
     "record query: The river @placeholder floods each spring. entities: Ilva, Marek, Norsby "
     "passage: Norsby lies on the Ilva. Marek runs the ferry. Floods are common in spring.", "Ilva"),
    ("superglue_rte",
     {"premise": "The ferry arrived an hour after schedule.", "hypothesis": "The ferry was late.",
      "label": "entailment"},
     "rte hypothesis: The ferry was late. premise: The ferry arrived an hour after schedule.", "entailment"),
    ("superglue_wic",
     {"word": "bank", "sentence1": "He sat on the bank of the stream.", "sentence2": "The bank raised its rates.",
      "label": False},
     "wic sentence1: He sat on the bank of the stream. sentence2: The bank raised its rates. word: bank", "False"),
    ("superglue_wsc",
     {"text": "The jar would not fit in the box because it was too wide.", "label": True,
      "target": {"span1_text": "The jar", "span1_index": 0, "span2_text": "it", "span2_index": 9}},
     "wsc: The jar would not fit in the box because *it* was too wide.", "The jar"),
    ("superglue_dpr",
     {"sentence": "The cook called the waiter since he wanted help .", "pronoun": "he",
      "candidates": ["The cook", "the waiter"], "label": 0},
     "wsc: The cook called the waiter since *he* wanted help .", "The cook"),
    ("squad",
     {"question": "Who carved the door?", "context": "The oak door was carved by Ines Valdor in 1902.",
      "answers": ["Ines Valdor", "Valdor"], "id": "q1"},
     "question: Who carved the door ? context: The oak door was carved by Ines Valdor in 1902 .", "Ines Valdor"),
    ("cnn_dailymail",
     {"article": "The town council voted on Monday to plant 400 trees along the ring road. …",
      "highlights": "Council votes to plant 400 trees .\nWork starts in spring ."},
     "summarize: The town council voted on Monday to plant 400 trees along the ring road. …",
     "Council votes to plant 400 trees . Work starts in spring ."),
    ("wmt_ende", {"en": "The bread is still warm.", "de": "Das Brot ist noch warm."},
     "translate English to German: The bread is still warm.", "Das Brot ist noch warm."),
    ("wmt_enfr", {"en": "The bread is still warm.", "fr": "Le pain est encore chaud."},
     "translate English to French: The bread is still warm.", "Le pain est encore chaud."),
    ("wmt_enro", {"en": "The bread is still warm.", "ro": "Pâinea este încă caldă."},
     "translate English to Romanian: The bread is still warm.", "Pâinea este încă caldă."),
]


@pytest.mark.parametrize(("name", "record", "inputs", "targets"), WORKED, ids=[row[0] for row in WORKED])
def test_the_worked_example_has_its_exact_text(name, record, inputs, targets):
    (example,) = get_task(name).format(record)
    assert (example.inputs, example.targets) == (inputs, targets)


def test_every_task_of_the_study_has_a_worked_example():
    from data.tasks import task_names

    covered = {row[0] for row in WORKED}
    assert set(task_names()) - covered == {"glue_mnli_mismatched", "glue_ax", "superglue_axb", "superglue_axg"}
