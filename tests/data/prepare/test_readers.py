"""Readers: every line once wherever the input is cut, gzip, WARC and WET, and what bad input becomes."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from data.errors import DataDamaged
from data.prepare.readers import Bad, Page, read_piece
from data.prepare.settings import variant_settings
from data.prepare.sources import find_sources, plan_pieces


def read(place: Path, form: str = "auto", **changes: object) -> list[Page | Bad]:
    options = variant_settings("c4", format=form, **changes)
    sources, _ = find_sources([str(place)], form)
    return [page for piece in plan_pieces(sources, options) for page in read_piece(sources, piece, options)]


def reasons(found: list[Page | Bad]) -> list[str]:
    return [page.reason if isinstance(page, Bad) else page.text for page in found]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(alphabet="ab é", max_size=12), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 40),
    st.integers(8, 40),
)
def test_each_line_once_at_any_cut(
    tmp_path: Path, lines: list[str], end: str, ends: bool, piece_bytes: int, longest: int
) -> None:
    place = tmp_path / "in.txt"
    place.write_bytes((end.join(lines) + (end if ends else "")).encode())
    found = read(place, "lines", piece_bytes=piece_bytes, longest_record=longest)
    expected = [line if len(line.encode()) <= longest else "overlong record" for line in lines if line.strip()]
    assert reasons(found) == expected
    if not any(isinstance(page, Bad) for page in found):
        assert found == read(place, "lines", piece_bytes=1 << 20)


def test_places_name_the_byte_of_the_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n\ntwo\nthree")
    found = read(tmp_path / "in.txt", "lines", piece_bytes=2)
    assert [(page.url, page.text, page.named) for page in found if isinstance(page, Page)] == [
        ("in.txt#0", "one", False),
        ("in.txt#5", "two", False),
        ("in.txt#9", "three", False),
    ]


def test_a_text_file_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_bytes(b"x" * 101)
    (tmp_path / "d.txt").write_bytes(b"")
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(b"packed"))
    found = read(tmp_path, longest_record=100)
    assert reasons(found) == ["one\ntwo\n", "undecodable", "overlong record", "", "packed"]
    assert isinstance(found[1], Bad)
    assert (found[1].where, found[1].excerpt) == ("b.txt#0", "caf\\xe9")


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_good_and_bad(tmp_path: Path, packed: bool) -> None:
    lines = [
        json.dumps({"text": "hello", "url": "http://www.a.org/x/", "timestamp": "2019-04-25T12:57:54Z"}).encode(),
        b"",
        b'{"text": "no address"}',
        b'{"text": "odd", "url": 5, "timestamp": 7}',
        b"not json",
        b'{"url": "http://b.org"}',
        b'{"text": null}',
        b'["text"]',
        b'{"text": "caf\xe9"}',
        b'{"text": "half \\ud800"}',
        b'{"text": "\\ud83d\\ude00"}',
        b"[" * 100_000,
        b'{"text": ""}',
    ]
    data = b"\n".join(lines)
    place = tmp_path / ("in.json.gz" if packed else "in.json")
    # Two gzip members, as concatenated files have.
    place.write_bytes(gzip.compress(data[:90]) + gzip.compress(data[90:]) if packed else data)
    found = read(place, piece_bytes=64)
    assert reasons(found) == [
        "hello", "no address", "odd", "not JSON", "no field 'text'", "no field 'text'", "no field 'text'",
        "undecodable", "undecodable", "\U0001f600", "not JSON", "",
    ]
    assert found[0] == Page("a.org/x", "hello", "2019-04-25T12:57:54Z", True)
    assert isinstance(found[1], Page)
    assert found[1].url == f"{place.name}#{data.index(lines[2])}"
    assert isinstance(found[2], Page)
    assert (found[2].timestamp, found[2].named) == (None, False)


def test_other_field_names(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"content": "hello", "link": "http://a.org"}\n')
    found = read(tmp_path / "in.jsonl", text_field="content", url_field="link")
    assert found == [Page("a.org", "hello", None, True)]


def test_a_line_of_50_megabytes_is_one_bad_record(tmp_path: Path) -> None:
    with (tmp_path / "in.jsonl").open("wb") as file:
        file.write(b'{"text": "before"}\n')
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"text": "after"}\n')
    assert reasons(read(tmp_path / "in.jsonl", piece_bytes=8 << 20)) == ["before", "overlong record", "after"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no gzip"])
def test_broken_gzip_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress(b"".join(b'{"text": "number %d"}\n' % n for n in range(5000))))
    if damage == "cut":
        del data[-2000:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
    else:
        data[:2] = b"no"
    (tmp_path / "in.jsonl.gz").write_bytes(bytes(data))
    with pytest.raises(DataDamaged, match=r"in\.jsonl\.gz is broken gzip"):
        read(tmp_path / "in.jsonl.gz")


def wet_record(writer: WARCWriter, url: str, text: bytes) -> None:
    headers = {"WARC-Date": "2019-04-18T12:00:00Z", "WARC-Identified-Content-Language": "eng"}
    writer.write_record(
        writer.create_warc_record(
            url, "conversion", payload=io.BytesIO(text), length=len(text), warc_content_type="text/plain",
            warc_headers_dict=headers,
        )
    )


@pytest.mark.parametrize("packed", [True, False])
def test_wet_files(tmp_path: Path, packed: bool) -> None:
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("x.warc.wet", {"software": "test"}))
    wet_record(writer, "http://www.a.org/1/", "Première ligne.\nSecond line.".encode())
    wet_record(writer, "http://b.org/2", b"caf\xe9")
    wet_record(writer, "http://c.org/3", b"x" * 500)
    wet_record(writer, "http://d.org/4", b"")
    place = tmp_path / ("x.warc.wet.gz" if packed else "x.warc.wet")
    place.write_bytes(stream.getvalue())
    found = read(place, longest_record=400)
    assert found[0] == Page("a.org/1", "Première ligne.\nSecond line.", "2019-04-18T12:00:00Z", True)
    assert reasons(found)[1:] == ["undecodable", "overlong record", ""]


def test_warc_responses(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=True)

    def response(url: str, status: str, kind: str, body: bytes) -> None:
        http = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        writer.write_record(writer.create_warc_record(url, "response", io.BytesIO(body), http_headers=http))

    page = (
        "<html><head><title>No</title><style>p{}</style></head><body><h1>Head</h1><p>One <b>bold</b>\nword &amp; more."
        "<p>Caf\xe9<br>line<script>var x = '<p>no</p>';</script></p></body></html>"
    )
    response("http://a.org/", "200 OK", "text/html; charset=ISO-8859-1", page.encode("latin-1"))
    response("http://a.org/missing", "404 Not Found", "text/html", b"<p>gone</p>")
    response("http://a.org/image", "200 OK", "image/png", b"\x89PNG")
    response("http://a.org/plain", "200 OK", "text/plain", b"plain text")
    (tmp_path / "x.warc.gz").write_bytes(stream.getvalue())
    found = read(tmp_path / "x.warc.gz")
    assert reasons(found) == ["Head\nOne bold word & more.\nCafé\nline", "plain text"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_broken_warc_is_refused_by_name(tmp_path: Path, damage: str, packed: bool) -> None:
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=packed)
    for number in range(3):
        wet_record(writer, f"http://a.org/{number}", b"some text here " * 20)
    data = bytearray(stream.getvalue())
    place = tmp_path / ("x.wet.gz" if packed else "x.wet")
    if damage == "cut":
        del data[-100:]
    elif damage == "flipped":
        data[len(data) // 2 if packed else data.index(b"some text") + 3] ^= 1
    else:
        data[:4] = b"this"
    place.write_bytes(bytes(data))
    with pytest.raises(DataDamaged, match=r"x\.wet.*again"):
        read(place)


def test_a_wrong_length_in_a_warc_is_noticed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = WARCWriter(stream, gzip=False)
    for number in range(3):
        wet_record(writer, f"http://a.org/{number}", b"some text here")
    data = stream.getvalue().replace(b"WARC-Block-Digest", b"X-Digest").replace(b"WARC-Payload-Digest", b"X-Other")
    place = tmp_path / "x.wet"
    place.write_bytes(data.replace(b"Content-Length: 14", b"Content-Length: 11", 1))
    with pytest.raises(DataDamaged, match=r"x\.wet has 1 records of a wrong length"):
        read(place)
