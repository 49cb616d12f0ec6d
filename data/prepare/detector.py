"""langdetect's detector, the same to the last bit and several times as fast.

langdetect walks a text character by character in Python. But the state of that walk starts anew at each space, so
the n-grams of a text are those of its words, and words repeat: each is looked at once and remembered. The products
over languages run in numpy, five n-grams at a time, in the same order of operations.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from langdetect.detector import Detector
from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
from langdetect.lang_detect_exception import ErrorCode, LangDetectException
from langdetect.utils.ngram import NGram
from langdetect.utils.unicode_block import unicode_block
from numpy.typing import NDArray

_SEED = 0
_STEP = 5
_SPACES = re.compile(" {2,}")
# A bound on what the words of a long run of web pages may take up: about 200 MB.
_WORDS_KEPT = 200_000


class _Normal(dict[int, str]):
    """A table for str.translate: langdetect's normal form of each character, worked out when first met."""

    def __missing__(self, code: int) -> str:
        normal: str = NGram.normalize(chr(code))
        self[code] = normal
        return normal


class FastDetectors:
    """Makes guesses as ``langdetect.detect_langs`` with ``DetectorFactory.seed = 0`` does."""

    def __init__(self) -> None:
        self.factory = DetectorFactory()
        self.factory.load_profile(PROFILES_DIRECTORY)
        self.factory.seed = _SEED
        self.normal = _Normal()
        # Of each known n-gram met so far, the number of its row in `table`; of each word, the rows of its n-grams.
        self.rows: dict[str, int] = {}
        self.words: dict[str, list[int]] = {}
        # Memory is taken only by rows that are filled in.
        self.table = np.empty((len(self.factory.word_lang_prob_map), len(self.factory.langlist)))

    def guesses(self, text: str) -> list[tuple[str, float]]:
        """(language, probability) of the likely languages, the most probable first; LangDetectException for none."""
        detector = _FastDetector(self)
        detector.append(text)
        return [(guess.lang, float(guess.prob)) for guess in detector.get_probabilities()]

    def ngrams(self, text: str) -> list[int]:
        """The rows of the known n-grams of a text, in the order in which langdetect meets them."""
        if len(self.words) > _WORDS_KEPT:
            self.words.clear()
        *words, last = text.translate(self.normal).split(" ")
        found: list[int] = []
        for word in words:
            ngrams = self.words.get(word)
            if ngrams is None:
                ngrams = self.words[word] = self._ngrams_of(word + " ")
            found += ngrams
        return found + self._ngrams_of(last)

    def _ngrams_of(self, word: str) -> list[int]:
        """The same of a word that follows a space."""
        known = self.factory.word_lang_prob_map
        state = NGram()
        found = []
        for character in word:
            state.add_char(character)
            if not state.capitalword:
                grams = state.grams
                tails = (grams[-size:] for size in range(1, len(grams) + 1))
                found += [self._row(tail) for tail in tails if tail != " " and tail in known]
        return found

    def _row(self, ngram: str) -> int:
        row = self.rows.get(ngram)
        if row is None:
            row = self.rows[ngram] = len(self.rows)
            self.table[row] = self.factory.word_lang_prob_map[ngram]
        return row


class _FastDetector(Detector):  # type: ignore[misc]
    text: str

    def __init__(self, shared: FastDetectors) -> None:
        super().__init__(shared.factory)
        self._shared = shared

    def append(self, text: str) -> None:
        text = self.MAIL_RE.sub(" ", self.URL_RE.sub(" ", text))
        text = NGram.normalize_vi(text)[: self.max_text_length]
        self.text += _SPACES.sub(" ", text)

    def cleaning_text(self) -> None:
        latin = other = 0
        for character, count in Counter(self.text).items():
            if "A" <= character <= "z":
                latin += count
            elif character >= "\u0300" and unicode_block(character) != "Latin Extended Additional":
                other += count
        if latin * 2 < other:
            self.text = re.sub("[A-z]", "", self.text)

    def _detect_block(self) -> None:
        self.cleaning_text()
        ngrams = self._shared.ngrams(self.text)
        if not ngrams:
            raise LangDetectException(ErrorCode.CantDetectError, "No features in text.")
        self.random.seed(self.seed)
        total = np.zeros(len(self.langlist))
        for _ in range(self.n_trial):
            weight = (self.alpha + self.random.gauss(0.0, 1.0) * self.ALPHA_WIDTH) / self.BASE_FREQ
            total += self._trial(ngrams, weight) / self.n_trial
        self.langprob = total.tolist()

    def _trial(self, ngrams: list[int], weight: float) -> NDArray[np.float64]:
        """Probabilities after as many random n-grams as it takes to be sure, asked after the first and every 5th."""
        size, bits, draw = len(ngrams), len(ngrams).bit_length(), self.random.getrandbits
        factors = np.empty((1 + _STEP, len(self.langlist)))
        factors[0] = 1.0 / len(self.langlist)
        drawn, wanted = 0, 1
        while True:
            rows: list[int] = []
            while len(rows) < wanted:
                number = draw(bits)  # as random.choice draws
                if number < size:
                    rows.append(ngrams[number])
            np.add(self._shared.table[rows], weight, out=factors[1 : 1 + wanted])
            # Along the first axis numpy multiplies row after row, as the original does.
            chances: NDArray[np.float64] = np.multiply.reduce(factors[: 1 + wanted], axis=0)
            # Its own sum would add in pairs and round otherwise than a sum from left to right.
            chances /= sum(chances.tolist())
            drawn += wanted
            if chances.max() > self.CONV_THRESHOLD or drawn > self.ITERATION_LIMIT:
                return chances
            factors[0] = chances
            wanted = _STEP
