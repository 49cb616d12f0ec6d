"""The report as one self-contained page for people (`report.html`): tables, examples, and pictures as inline SVG."""

from __future__ import annotations

from html import escape
from typing import Any

_BAR_WIDTH, _BAR_HEIGHT, _LABEL = 420, 18, 190
_SHOWN = 25
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:58rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d0d7de}
table{border-collapse:collapse}td,th{padding:.15rem .9rem .15rem 0;text-align:left}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums}details{margin:.2rem 0}blockquote{margin:.3rem 0 .3rem 1rem;padding-left:.7rem;
border-left:3px solid #d0d7de;white-space:pre-wrap;overflow-wrap:anywhere}small{color:#57606a}svg text{font-size:12px;
fill:currentColor}rect{fill:#2f6fb2}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}rect{fill:#6cb6ff}}
"""


def render_page(report: dict[str, Any]) -> str:
    """The page; everything that comes from data is escaped, and nothing is loaded from elsewhere."""
    counts = report["counts"]
    sections = [
        _summary(report),
        "<h2>Pages by rule</h2>",
        _funnel(counts.get("records", 0), report["pages_by_rule"], counts.get("pages out", 0)),
        "<h2>Lines by rule</h2>",
        _table(("rule", "lines dropped"), report["lines_by_rule"].items()),
        _table(("rule", "lines edited"), report["lines_edited"].items()),
        "<h2>What each rule took</h2>",
        *(_examples(rule, examples) for rule, examples in report["examples"].items()),
        "<h2>Tokens by top-level domain</h2>",
        _bars(_token_rows(report["domains"])),
        "<h2>Tokens by website</h2>",
        _bars(_token_rows(report["sites"])),
        "<h2>Documents by length in tokens</h2>",
        _bars([(f"{low:,} to {high:,}", count) for low, high, count in report["lengths"]]),
        _benchmark(report["benchmark"]),
        "<h2>Settings</h2>",
        _table(("setting", "value"), ((name, str(value)) for name, value in report["settings"].items())),
    ]
    title = f"Prepared corpus: {escape(report['settings']['variant'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(sections)}</body></html>\n"
    )


def _summary(report: dict[str, Any]) -> str:
    rows = [
        (split, f"{part['documents']:,}", f"{part['tokens']:,}", f"{part['shards']:,}", f"{part['bytes']:,}")
        for split, part in report["splits"].items()
    ]
    ignored = ""
    if report["ignored"]:
        names = ", ".join(map(escape, report["ignored_files"]))
        ignored = f"<p>{report['ignored']:,} files were passed over, since their endings are unknown: {names}</p>"
    vocabulary = report["vocabulary"]
    return (
        f"<p>{report['input_files']:,} input files, {report['input_bytes']:,} bytes, "
        f"{report['counts'].get('records', 0):,} records; vocabulary of {vocabulary['pieces']:,} pieces "
        f"<small>{escape(vocabulary['fingerprint'][:16])}</small>.</p>{ignored}"
        + _table(("split", "documents", "tokens", "shards", "bytes"), rows)
    )


def _funnel(records: int, dropped: dict[str, int], left: int) -> str:
    rows: list[tuple[str, ...]] = [("records read", "", f"{records:,}")]
    remaining = records
    for rule, count in dropped.items():
        remaining -= count
        rows.append((rule, f"{count:,}", f"{remaining:,}"))
    rows.append(("documents out", "", f"{left:,}"))
    return _table(("rule", "pages dropped", "left"), rows)


def _examples(rule: str, examples: list[list[str]]) -> str:
    quotes = "".join(
        f"<blockquote>{escape(text)}<br><small>{escape(url)}</small></blockquote>" for url, text in examples
    )
    return f"<details><summary>{escape(rule)}</summary>{quotes}</details>"


def _token_rows(table: dict[str, list[int]]) -> list[tuple[str, int]]:
    return [(name, tokens) for name, (_, tokens) in list(table.items())[:_SHOWN]]


def _bars(rows: list[tuple[str, int]]) -> str:
    """Horizontal bars, one a row, the longest as wide as the picture."""
    largest = max((value for _, value in rows), default=0)
    if not largest:
        return "<p>Nothing to show.</p>"
    parts = []
    for place, (name, value) in enumerate(rows):
        top = place * (_BAR_HEIGHT + 4)
        width = max(round(value / largest * _BAR_WIDTH), 1)
        middle = top + _BAR_HEIGHT - 5
        label = escape(name if len(name) <= 28 else name[:27] + "…")
        parts.append(
            f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{label}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{width}" height="{_BAR_HEIGHT}"/>'
            f'<text x="{_LABEL + width + 6}" y="{middle}">{value:,}</text>'
        )
    height = len(rows) * (_BAR_HEIGHT + 4)
    return f'<svg role="img" width="{_LABEL + _BAR_WIDTH + 110}" height="{height}">{"".join(parts)}</svg>'


def _benchmark(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    rows = [(match["example"], match["url"], f"{match['share']:.0%}") for match in found["matches"]]
    return (
        "<h2>Near-duplicates of the benchmark</h2>"
        f"<p>{found['found']:,} of {found['examples']:,} test examples are nearly contained in a document; "
        f"{found['too_short']:,} are too short to compare.</p>" + _table(("example", "document", "share"), rows)
    )


def _table(head: tuple[str, ...], rows: Any) -> str:
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    if not body:
        return ""
    return "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + f"</tr>{body}</table>"


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    number = text.replace(",", "").rstrip("%").isdigit()
    return f'<td class="n">{text}</td>' if number else f"<td>{escape(text)}</td>"
