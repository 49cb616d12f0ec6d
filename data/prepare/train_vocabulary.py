"""Training the vocabulary: a SentencePiece unigram model with T5's special ids.

The paper's vocabulary has 32,000 pieces, trained on ten parts of English to one part each of German, French and
Romanian; pad is 0, the end mark 1, unknown 2, and there is no begin mark. The trainer's other settings were never
published.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece

from data.errors import UserError

# SentencePiece sums over threads in floating point, so that the model depends on their number: it is fixed here.
_THREADS = 4
# The trainer drops longer "sentences" without an error.
_LONGEST_SENTENCE = 4_192
_SIZE_HINT = re.compile(r"value <= (\d+)")


def train_vocabulary(texts: Iterable[str], size: int, *, character_coverage: float = 0.9995) -> bytes:
    """The bytes of a unigram model of `size` pieces over `texts`; the same texts in the same order give the same bytes.

    UserError where the text is empty or too little for so many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            character_coverage=character_coverage,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=_THREADS,
            max_sentence_length=_LONGEST_SENTENCE,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(_reason(str(error), size)) from error
    return model.getvalue()


def mix(sources: Sequence[tuple[Sequence[str], float]]) -> list[str]:
    """Texts of several languages in the given proportions of characters, as many as the scarcest source allows.

    `sources` holds (texts, parts), for example ten parts of English and one of each other language. The texts of each
    source are taken in order.
    """
    sizes = [sum(map(len, texts)) for texts, _ in sources]
    unit = min(size / parts for size, (_, parts) in zip(sizes, sources, strict=True))
    if unit == 0:
        raise UserError("one of the languages of the vocabulary's mix has no text; name a file that has some")
    mixed: list[str] = []
    for texts, parts in sources:
        wanted = unit * parts
        for text in texts:
            if wanted <= 0:
                break
            mixed.append(text[: int(wanted) + 1])
            wanted -= len(text)
    return mixed


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.split("\n"):
            yield from _cut(line)


def _cut(line: str) -> Iterator[str]:
    """Runs of whole words of a line, each short enough for the trainer (whose limit is in UTF-8 bytes)."""
    longest = _LONGEST_SENTENCE // 4
    while len(line) > longest:
        place = line.rfind(" ", 0, longest)
        place = place if place > 0 else longest
        yield line[:place]
        line = line[place:].lstrip()
    if line.strip():
        yield line


def _reason(message: str, size: int) -> str:
    hint = _SIZE_HINT.search(message)
    if hint:
        return f"the text is too little for a vocabulary of {size} pieces; ask for at most {hint.group(1)}"
    if "too small" in message or "empty" in message.lower() or "sentences" in message.lower():
        return f"there is too little text to train a vocabulary of {size} pieces; give more text or a smaller size"
    return f"a vocabulary of {size} pieces could not be trained: {message}"
