"""Bytes at rest: one small interface over folders and S3, with atomic and conditional writes."""

from data.storage.base import Changed, Missing, Stat, Storage, Unavailable
from data.storage.cache import CachedStorage
from data.storage.local import LocalStorage
from data.storage.s3 import Retry, S3Storage
from data.storage.urls import open_storage

__all__ = [
    "CachedStorage",
    "Changed",
    "LocalStorage",
    "Missing",
    "Retry",
    "S3Storage",
    "Stat",
    "Storage",
    "Unavailable",
    "open_storage",
]
