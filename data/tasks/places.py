"""Where files and folders lie: a path or a URL taken apart and put together, an S3 URL's options kept."""

from __future__ import annotations


def parted(place: str) -> tuple[str, str]:
    """The folder (for `open_storage`) and the name of a file."""
    path, options = _options(place)
    folder, slash, name = path.rpartition("/")
    return (folder or slash or ".") + options, name


def within(folder: str, name: str) -> str:
    """The place called `name` in `folder`; a name that is a URL or an absolute path stays as it is."""
    if "://" in name or name.startswith("/"):
        return name
    path, options = _options(folder)
    return f"{path.rstrip('/')}/{name}{options}"


def ending_in(place: str, endings: tuple[str, ...]) -> str | None:
    """The first of `endings` that the file's name has."""
    path, _ = _options(place)
    return next((ending for ending in endings if path.endswith(ending)), None)


def _options(place: str) -> tuple[str, str]:
    """Path and `?options`, which S3 URLs alone have."""
    if not place.startswith("s3://"):
        return place, ""
    path, mark, options = place.partition("?")
    return path, mark + options
