"""A made-up crawl, always the same, in which every rule of C4 has something to take and pages share sentences."""

from __future__ import annotations

import json
import random
from pathlib import Path

_WORDS = """
    river stone garden morning letter window harbor silver winter market gentle narrow ancient yellow quiet
    walked carried opened watched painted repaired measured between against through under before after while
    the the the a a and of to in with for on was were had old new small large many every some
""".split()  # noqa: SIM905
_ODD_LINES = (
    "Home | About | Contact us",
    "Read more about this here...",
    "Too short line.",
    "Please enable Javascript in your browser to see this page.",
    "We value you, and our privacy policy explains what we keep.",
    "This site uses cookies so that pages load a little faster.",
    "The bridge [12] was built [citation needed] by three old men from the north [edit].",
    "x" * 1200 + " is a very long word in a line.",
    "? ! . ? !",
    "",
)
_DEADLY_LINES = ("The words lorem ipsum fill this page for now.", "Then if (ready) { start() } and it all went well.")


def sentence(rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randint(5, 12))]
    return (" ".join(words)).capitalize() + rng.choice((".", ".", ".", "?", "!"))


def crawl(pages: int, seed: int = 7) -> list[dict[str, str]]:
    """Records as in the public C4: text, url, timestamp."""
    rng = random.Random(seed)
    shared = [sentence(rng) for _ in range(12)]
    shared_lines = [" ".join(sentence(rng) for _ in range(rng.randint(1, 5))) for _ in range(6)]
    records = []
    for number in range(pages):
        lines = []
        for _ in range(rng.randint(1, 5)):
            kind = rng.random()
            if kind < 0.12:
                lines.append(rng.choice(_ODD_LINES))
            elif kind < 0.25:
                lines.append(rng.choice(shared_lines))
            else:
                start = rng.randrange(len(shared) - 3)
                borrowed = shared[start : start + rng.randint(2, 4)] if rng.random() < 0.3 else []
                own = [sentence(rng) for _ in range(rng.randint(1, 4))]
                lines.append(" ".join(own + borrowed if rng.random() < 0.5 else borrowed + own))
        if rng.random() < 0.05:
            lines.append(rng.choice(_DEADLY_LINES))
        site = rng.choice(("www.example.org", "news.example.com", "example.co.uk"))
        url = f"https://{site}/page/{number if rng.random() < 0.9 else number // 2}"
        url += rng.choice(("", "", "/", "?utm_source=x", "/feed/"))
        records.append({"text": "\n".join(lines), "url": url, "timestamp": f"2019-04-{1 + number % 28:02d}T00:00:00Z"})
    return records


def write_json_lines(records: list[dict[str, str]], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    return path
