"""From what a user writes to a storage: paths, `file://` and `s3://`; every other scheme is refused."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from data.errors import UserError
from data.storage.base import Storage
from data.storage.local import LocalStorage
from data.storage.s3 import S3Storage

# One letter before the colon is no scheme but a short relative name or a drive.
SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")


def open_storage(url: str | Path) -> Storage:
    """The storage of a folder path, `file:///folder` or `s3://bucket/prefix[?endpoint=http://host&region=name]`.

    Opens no connection. Raises UserError for other schemes (`pipe:` among them), credentials in the URL,
    unknown query keys and endpoints of the link-local network.
    """
    if isinstance(url, Path):
        return LocalStorage(url)
    if not url.strip() or "\0" in url:
        raise UserError(f"storage URL {url!r} is empty or holds a zero byte: give a folder or s3://bucket/prefix")
    match = SCHEME.match(url)
    if match is None:
        return LocalStorage(url)
    scheme = match.group(1).lower()
    if scheme == "file":
        return LocalStorage(_file_path(url))
    if scheme == "s3":
        return _open_s3(url)
    raise UserError(
        f"storage scheme {scheme + ':'!r} is refused: use a folder path, file:///folder or s3://bucket/prefix"
    )


def _file_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise UserError("a file URL names an absolute path on this machine: write file:///folder")
    return unquote(parts.path)


def _open_s3(url: str) -> S3Storage:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UserError(
            "an s3 URL with credentials in it is refused: take them out; they come from the environment, "
            "the shared credentials file or the machine's role"
        )
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        raise UserError(f"bucket {bucket!r} is not a bucket's name: write s3://bucket/prefix")
    if parts.fragment or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise UserError(f"prefix {prefix!r} is refused: write s3://bucket/prefix without empty, '.' or '..' parts")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(query) - {"endpoint", "region"})
    if unknown:
        raise UserError(f"s3 URL option {unknown[0]!r} is unknown: only endpoint and region are")
    endpoint = query.get("endpoint")
    if endpoint is not None:
        _check_endpoint(endpoint)
    return S3Storage(bucket, prefix, endpoint=endpoint, region=query.get("region"))


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise UserError("an s3 endpoint is http://host[:port] or https://host[:port], without credentials")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if address.is_link_local:
        raise UserError(f"s3 endpoint {parts.hostname} is refused: link-local addresses serve machine metadata")
