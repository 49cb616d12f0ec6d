"""Takes credentials out of text before it is written or shown: errors quote URLs, headers and settings."""

from __future__ import annotations

import os
import re
from typing import Any

_HIDDEN = "[hidden]"
_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|CREDENTIAL|API_KEY")
_SHORTEST = 8
"""Values of such variables that are shorter are words like `token` or `false`."""
_PATTERNS = (
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), _HIDDEN),
    (re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)(?:=|%3D|: ?|': ?'))[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(authorization\W{1,4}(?:bearer|basic)\s+)[^\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(\w://)[^/\s@:]+(?::[^/\s@]*)?@"), rf"\1{_HIDDEN}@"),
)


def redact(text: str) -> str:
    """`text` without access keys, signatures, user information of URLs, and values of variables that hold secrets."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAMES.search(name.upper()) and value in text:
            text = text.replace(value, _HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redacted(value: Any) -> Any:
    """`value` with `redact` done to every text in it, however deep in dicts, lists and tuples; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
