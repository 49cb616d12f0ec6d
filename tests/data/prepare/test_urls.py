"""URLs: normal forms, owners, the split, lists."""

from __future__ import annotations

import hashlib

import pytest

from data.prepare.urls import (
    UrlSet,
    in_domains,
    is_validation,
    normalize_url,
    top_level_domain,
    url_digest,
    website,
)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://www.example.org/a", "example.org/a"),
        ("https://example.org/a/", "example.org/a"),
        ("HTTPS://WWW.example.org", "example.org"),
        ("https://example.org/a?utm_source=x&b=1", "example.org/a"),
        ("https://example.org/a?ref=x", "example.org/a"),
        ("https://example.org/a/?feed=rss", "example.org/a"),
        ("https://example.org/a/feed/", "example.org/a"),
        ("https://example.org/a?page=2", "example.org/a?page=2"),
        ("https://example.org/a?page=2&utm_source=x", "example.org/a?page=2&utm_source=x"),
        ("https://example.org/www.html", "example.org/www.html"),
        (" https://example.org/feeder ", "example.org/feeder"),
        ("ftp://example.org/a", "ftp://example.org/a"),
        ("example.org/a", "example.org/a"),
    ],
)
def test_normal_form(url: str, normal: str) -> None:
    assert normalize_url(url) == normal
    assert normalize_url(normal) == normal


def test_split_is_md5_modulo_1000() -> None:
    urls = [f"example.org/{number}" for number in range(5000)]
    held_out = [url for url in urls if is_validation(url_digest(url), 0.001)]
    assert held_out == [url for url in urls if int(hashlib.md5(url.encode()).hexdigest(), 16) % 1000 == 0]
    assert held_out
    share = sum(is_validation(url_digest(url), 0.05) for url in urls) / len(urls)
    assert 0.04 < share < 0.06
    assert not any(is_validation(url_digest(url), 0.0) for url in urls)


def test_websites_and_domains() -> None:
    assert website("https://www.Example.ORG:8080/a?b") == "example.org"
    assert website("example.org/a") == "example.org"
    assert website("news.bbc.co.uk") == "news.bbc.co.uk"
    assert website("") == ""
    assert [top_level_domain(host) for host in ("example.org", "a.co.uk", "localhost", "10.0.0.1", "")] == [
        "org", "uk", "", "", "",
    ]
    domains = frozenset({"bbc.co.uk", "example.org"})
    hosts = ("bbc.co.uk", "news.bbc.co.uk", "abbc.co.uk", "co.uk", "example.org.evil.com", "")
    assert [in_domains(host, domains) for host in hosts] == [True, True, False, False, False, False]


def test_url_set_compares_normal_forms() -> None:
    urls = UrlSet(["http://www.example.org/a/", "https://b.org/?utm_x", "https://b.org/"])
    assert len(urls.hashes) == 2
    assert "example.org/a" in urls
    assert "b.org" in urls
    assert "example.org/b" not in urls
    assert "z" not in UrlSet([])
