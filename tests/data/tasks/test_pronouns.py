"""Pronoun tasks: marking, conversion and matching by the rules of the fact sheet's section 5.4."""

import pytest

from data.errors import UserError
from data.tasks import get_task
from data.tasks.pronouns import judged


@pytest.mark.parametrize(
    ("output", "candidate", "value"),
    [
        ("jar", "The jar", 1),
        ("the jar's lid", "jar", 0),
        ("", "jar", -1),
        ("the wide jar", "jar", 1),
        ("  ", "jar", -1),
        ("The", "jar", -1),
        ("JAR", "jar", 1),
        ("lid", "jar", 0),
        ("the cook's jar", "Cook's jar", 1),
        ("wide lid", "wide jar", 0),
    ],
)
def test_nouns_match_as_the_original_matches_them(output, candidate, value):
    assert judged(output, candidate) == value


def wsc(text, pronoun, index, label=True, noun="The jar"):
    target = {"span1_text": noun, "span1_index": 0, "span2_text": pronoun, "span2_index": index}
    return {"text": text, "target": target, "label": label, "idx": 1}


def test_wsc_trains_on_true_examples_alone_and_evaluates_all():
    task = get_task("superglue_wsc")
    false = wsc("The jar broke when it fell.", "it", 4, label=False)
    assert task.format(false) == []
    (example,) = task.format(false, evaluate=True)
    assert (example.targets, example.truth) == ("The jar", 0)
    (unlabeled,) = task.format({**false, "label": None}, evaluate=True)
    assert unlabeled.truth == -1
    with pytest.raises(UserError, match="has no label"):
        task.evaluate([unlabeled], ["jar"])


def test_wsc_accuracy_compares_the_match_with_the_label():
    task = get_task("superglue_wsc")
    records = [wsc("The jar broke when it fell.", "it", 4, label=label) for label in (True, False, True, False)]
    examples = [task.format(record, evaluate=True)[0] for record in records]
    assert task.evaluate(examples, ["jar", "jar", "lid", "lid"]) == {"accuracy": 50.0}
    assert task.evaluate(examples, ["", "", "", ""]) == {"accuracy": 0.0}


@pytest.mark.parametrize(
    ("text", "pronoun", "index", "marked"),
    [
        ("It broke when it fell, and it rang.", "it", 6, "It broke when it fell, and *it* rang."),
        # The published index points at another word, or at a word with punctuation.
        ("They may use it , but now", "it", 2, "They may use *it* , but now"),
        ('He said: "Good for him," and left', "him", 4, 'He said: "Good for *him* ," and left'),
    ],
)
def test_wsc_marks_the_pronoun_at_its_index_or_nearest_to_it(text, pronoun, index, marked):
    (example,) = get_task("superglue_wsc").format(wsc(text, pronoun, index))
    assert example.inputs == f"wsc: {marked}"


def test_a_text_without_its_pronoun_is_refused():
    with pytest.raises(UserError, match="does not hold the pronoun 'it'"):
        get_task("superglue_wsc").format(wsc("The jar fell.", "it", 1))


def test_dpr_marks_the_first_free_standing_pronoun():
    record = {
        "sentence": "The thesis bored him, he said, so he left.",
        "pronoun": "he",
        "candidates": ["a", "b"],
        "label": 1,
    }
    (example,) = get_task("superglue_dpr").format(record)
    assert (example.inputs, example.targets) == ("wsc: The thesis bored him, *he* said, so he left.", "b")


@pytest.mark.parametrize(
    ("sentence", "pronoun", "marked"),
    [
        ("Ada asked Bo if she slept; he did.", "he", "Ada asked Bo if she slept; *he* did."),
        ("Ada beat Bo since that rookie lost.", "that rookie", "Ada beat Bo since *that rookie* lost."),
        ("Did Ada see her? She did.", "her", "Did Ada see *her*? She did."),
        ("The book bored him.", "him", "The book bored *him*."),
    ],
)
def test_dpr_pronouns_may_be_several_words_or_stand_before_other_signs(sentence, pronoun, marked):
    record = {"sentence": sentence, "pronoun": pronoun, "candidates": ["Ada", "Bo"], "label": 0}
    assert get_task("superglue_dpr").format(record)[0].inputs == f"wsc: {marked}"
    with pytest.raises(UserError, match="does not hold 'they'"):
        get_task("superglue_dpr").format({**record, "pronoun": "they"})


@pytest.mark.parametrize(
    ("premise", "hypothesis", "marked", "noun"),
    [
        (
            "Tom thanked Raj because he had helped.",
            "Raj had helped.",
            "Tom thanked Raj because *he* had helped.",
            "Raj",
        ),
        (
            "I drove the nail into the oak. When I drew the nail out, it had a hole.",
            "The oak had a hole.",
            "I drove the nail into the oak. When I drew the nail out, *it* had a hole.",
            "The oak",
        ),
        (
            "Pia hid the key, and nobody found it after she left.",
            "Pia hid the key, and nobody found the key after she left.",
            "Pia hid the key, and nobody found *it* after she left.",
            "the key",
        ),
        ("Lars met Ole on his way home.", "Lars met Ole on Ole's way home.", "Lars met Ole on *his* way home.", "Ole"),
        (
            "The cat saw the dog before it ran away, she says.",
            "The old dog ran away.",
            "The cat saw the dog before *it* ran away, she says.",
            "The old dog",
        ),
        ("Everyone liked her.", "Everyone liked Mona.", "Everyone liked *her* .", "Mona"),
    ],
)
def test_wnli_becomes_a_marked_premise_and_a_candidate(premise, hypothesis, marked, noun):
    (example,) = get_task("glue_wnli").format({"sentence1": premise, "sentence2": hypothesis, "label": "1"})
    assert (example.inputs, example.targets, example.truth) == (f"wsc: {marked}", noun, 1)


def test_wnli_without_a_pronoun_is_refused():
    with pytest.raises(UserError, match="holds no pronoun"):
        get_task("glue_wnli").format({"sentence1": "Raj slept.", "sentence2": "Raj slept."})
