"""Named tensors in a folder of safetensors files, read and written a tensor or a file at a time.

The files follow the convention of Hugging Face: `<stem>.safetensors` alone, or
`<stem>-00001-of-00003.safetensors`, ... with `<stem>.safetensors.index.json` saying which holds what.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.errors import UserError

SHARD_BYTES = 2 * 2**30
"""Bound on a file, and so on the memory it takes to write one."""


class Shards(Mapping[str, Tensor]):
    """The tensors of a folder; each is read when it is asked for.

    Raises `UserError` where there are none, or where a file is missing or damaged.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._files = self._find(stem)

    def __getitem__(self, name: str) -> Tensor:
        file = self._folder / self._files[name]
        try:
            with safe_open(file, framework="pt") as opened:
                tensor: Tensor = opened.get_tensor(name)
                return tensor
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot read {name!r} from {file} ({error}); get that file again") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def _find(self, stem: str) -> dict[str, str]:
        index = self._folder / f"{stem}.safetensors.index.json"
        single = self._folder / f"{stem}.safetensors"
        if index.exists():
            files: dict[str, str] = json.loads(index.read_text())["weight_map"]
            for file in sorted(set(files.values())):
                if Path(file).name != file:
                    raise UserError(f"{index} names {file!r}, which is not a file of its folder; get it again")
                if not (self._folder / file).exists():
                    raise UserError(f"{self._folder / file} is missing, but {index.name} lists it; get that file")
            return files
        if not single.exists():
            raise UserError(f"{self._folder} holds no {single.name}; convert a folder with safetensors files")
        try:
            with safe_open(single, framework="pt") as opened:
                return dict.fromkeys(opened.keys(), single.name)
        except SafetensorError as error:
            raise UserError(f"{single} is not a whole safetensors file ({error}); get it again") from error


def write_shards(
    folder: Path,
    stem: str,
    sizes: Mapping[str, int],
    load: Callable[[str], Tensor],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the tensors named by `sizes` (name to expected bytes), in that order, holding one file's at a time."""
    groups = list(_grouped(sizes, shard_bytes))
    if len(groups) == 1:
        _save({name: load(name) for name in groups[0]}, folder / f"{stem}.safetensors")
        return
    files: dict[str, str] = {}
    total = 0
    for number, group in enumerate(groups, start=1):
        file = f"{stem}-{number:05d}-of-{len(groups):05d}.safetensors"
        total += _save({name: load(name) for name in group}, folder / file)
        files |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _grouped(sizes: Mapping[str, int], limit: int) -> Iterable[list[str]]:
    group: list[str] = []
    held = 0
    for name, size in sizes.items():
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    yield group


def _save(tensors: dict[str, Tensor], file: Path) -> int:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    return sum(tensor.nbytes for tensor in tensors.values())
