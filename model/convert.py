"""Models in and out: `python -m model.convert SOURCE TARGET`.

SOURCE is the folder of a model, or a run with checkpoints; TARGET is a new folder. Two kinds of folder hold a
model without a run. Ours, the export, has `config.json` (format "t5-export"), `parameters.safetensors` (one
file or several) and `vocabulary/sentencepiece.model`. Hugging Face's has `config.json`, `model.safetensors`
(one file or several) and `spiece.model`. Tensors stream from one to the other; memory holds one output file's
at a time.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from data.errors import UserError
from model import huggingface
from model.config import T5Config
from model.runs import open_run
from model.shards import SHARD_BYTES, Shards, write_shards
from model.source import VOCABULARY, Source, parameter_shapes, require_names

FORMAT = "t5-export"
VERSION = 1
_STEMS = {"export": "parameters", "huggingface": "model"}
_VOCABULARIES = {"export": VOCABULARY, "huggingface": "spiece.model"}


def open_source(place: str, step: int | None = None) -> Source:
    """The model in a folder, or of a run's checkpoint (`step`; the newest good one for None)."""
    if "://" not in place and (Path(place) / "config.json").exists():
        return open_folder(Path(place))
    return open_run(place, step)


def open_folder(folder: Path) -> Source:
    """The model in an export or in a Hugging Face folder; `UserError` where it is neither or not whole."""
    settings = _settings(folder)
    if settings.get("format") == FORMAT:
        if settings.get("version") != VERSION or not isinstance(settings.get("model"), dict):
            raise UserError(f"{folder} is an export of version {settings.get('version')}; this program reads {VERSION}")
        config = T5Config.from_dict(settings["model"])
        parameters: Mapping[str, Tensor] = Shards(folder, _STEMS["export"])
        vocabulary = folder / _VOCABULARIES["export"]
    elif settings.get("model_type") == "t5":
        config = huggingface.config_from(settings)
        parameters = _Renamed(Shards(folder, _STEMS["huggingface"]), config, folder)
        vocabulary = folder / _VOCABULARIES["huggingface"]
    else:
        raise UserError(f"{folder}/config.json is neither an export nor a Hugging Face T5; give one of the two")
    source = Source(config, parameters, vocabulary.read_bytes() if vocabulary.exists() else None)
    return require_names(source, str(folder))


def write_export(
    source: Source, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `source` as an export; `dtype` None keeps each tensor's own. Refuses a folder that is there."""
    table = {name: name for name in parameter_shapes(source.config)}
    settings = {"format": FORMAT, "version": VERSION, "model": source.config.to_dict()}
    _write("export", source, table, settings, folder, dtype, shard_bytes)


def write_huggingface(
    source: Source, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `source` so that `T5ForConditionalGeneration.from_pretrained` reads it. Refuses a folder that is there."""
    table = huggingface.names(source.config)
    _write("huggingface", source, table, huggingface.config_to(source.config), folder, dtype, shard_bytes)


class _Renamed(Mapping[str, Tensor]):
    """A Hugging Face folder's tensors under our names."""

    def __init__(self, tensors: Mapping[str, Tensor], config: T5Config, folder: Path) -> None:
        self._tensors = tensors
        self._names = {ours: theirs for theirs, ours in huggingface.names(config).items()}
        held = {name for name in tensors if not huggingface.is_copy(name, config)}
        if missing := sorted(set(self._names.values()) - held):
            raise UserError(f"{folder} lacks {missing[0]!r} ({len(missing)} missing); its files and config differ")
        if extra := sorted(held - set(self._names.values())):
            raise UserError(f"{folder} holds {extra[0]!r}, which its config has no place for; check config.json")

    def __getitem__(self, name: str) -> Tensor:
        return huggingface.turn(name, self._tensors[self._names[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _settings(folder: Path) -> dict:
    try:
        settings = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no config.json; give the folder of a model") from None
    except ValueError as error:
        raise UserError(f"{folder}/config.json is not JSON ({error}); get it again") from error
    if not isinstance(settings, dict):
        raise UserError(f"{folder}/config.json holds no settings; get it again")
    return settings


def _write(
    kind: str,
    source: Source,
    table: Mapping[str, str],
    settings: dict,
    folder: Path,
    dtype: torch.dtype | None,
    shard_bytes: int,
) -> None:
    """Write the tensors that `table` names (name there to name here) and what belongs beside them."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give a new folder")
    shapes = parameter_shapes(source.config)

    def load(name: str) -> Tensor:
        ours = table[name]
        tensor = source.parameters[ours].detach()
        if tensor.shape != shapes[ours]:
            raise UserError(f"parameter {ours!r} has shape {tuple(tensor.shape)}, not {tuple(shapes[ours])}")
        tensor = tensor.to(dtype or tensor.dtype)
        return huggingface.turn(ours, tensor) if kind == "huggingface" else tensor

    width = (dtype or torch.float32).itemsize
    sizes = {name: shapes[ours].numel() * width for name, ours in table.items()}
    # A conversion that dies half-way leaves no folder that looks whole.
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_shards(partial, _STEMS[kind], sizes, load, shard_bytes=shard_bytes)
    if source.vocabulary is not None:
        vocabulary = partial / _VOCABULARIES[kind]
        vocabulary.parent.mkdir(exist_ok=True)
        vocabulary.write_bytes(source.vocabulary)
    (partial / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    partial.replace(folder)


_WRITERS: dict[str, Callable[..., None]] = {"export": write_export, "huggingface": write_huggingface}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m model.convert", description="Convert a T5 model's folder.")
    parser.add_argument("source", help="an export, a Hugging Face folder, or the folder or URL of a run")
    parser.add_argument("target", type=Path, help="the folder to write; must not exist or be empty")
    parser.add_argument("--to", choices=sorted(_WRITERS), help="default: huggingface, or export from huggingface")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), help="default: as stored")
    parser.add_argument("--step", type=int, help="which checkpoint of a run; default: the newest good one")
    options = parser.parse_args(arguments)
    try:
        source = open_source(options.source, options.step)
        kind = options.to or ("export" if isinstance(source.parameters, _Renamed) else "huggingface")
        _WRITERS[kind](source, options.target, dtype=_DTYPES.get(options.dtype))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{options.target}: {kind}, {source.config.parameters():,} parameters")
    if source.vocabulary is None:
        print("no vocabulary lay beside the parameters; copy its SentencePiece model there yourself", file=sys.stderr)


if __name__ == "__main__":
    main()
