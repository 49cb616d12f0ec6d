"""Model folders in and out: `python -m model.convert SOURCE TARGET`.

Two kinds of folder hold a model without a run. Ours, the export, has `config.json` (format
"t5-export"), `parameters.safetensors` (one file or several) and `vocabulary/sentencepiece.model`. Hugging
Face's has `config.json`, `model.safetensors` (one file or several) and `spiece.model`. Tensors stream from one
to the other; memory holds one output file's at a time.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.errors import UserError
from model import huggingface
from model.config import T5Config
from model.shards import SHARD_BYTES, Shards, write_shards
from model.transformer import T5

FORMAT = "t5-export"
VERSION = 1
VOCABULARY = "vocabulary/sentencepiece.model"
_STEMS = {"export": "parameters", "huggingface": "model"}
_VOCABULARIES = {"export": VOCABULARY, "huggingface": "spiece.model"}


@dataclass(frozen=True)
class Source:
    """A model at rest: its shape, its parameters by our names (each read when asked for), its vocabulary."""

    config: T5Config
    parameters: Mapping[str, Tensor]
    vocabulary: bytes | None = None


def open_folder(folder: Path) -> Source:
    """The model in an export or in a Hugging Face folder; `UserError` where it is neither or not whole."""
    settings = _settings(folder)
    if settings.get("format") == FORMAT:
        if settings["version"] != VERSION:
            raise UserError(f"{folder} is an export of version {settings['version']}; this program reads {VERSION}")
        config = T5Config.from_dict(settings["model"])
        parameters: Mapping[str, Tensor] = Shards(folder, _STEMS["export"])
        vocabulary = folder / VOCABULARY
    elif settings.get("model_type") == "t5":
        config = huggingface.config_from(settings)
        parameters = _Renamed(Shards(folder, _STEMS["huggingface"]), config, folder)
        vocabulary = folder / _VOCABULARIES["huggingface"]
    else:
        raise UserError(f"{folder}/config.json is neither an export nor a Hugging Face T5; give one of the two")
    _check_names(parameters, config, folder)
    return Source(config, parameters, vocabulary.read_bytes() if vocabulary.exists() else None)


def load_folder(folder: Path) -> T5:
    """The model of an export or Hugging Face folder, whole and float32 on the CPU."""
    source = open_folder(folder)
    with torch.device("meta"):
        model = T5(source.config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.parameters[name])
    return model


def write_export(
    source: Source, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `source` as an export; `dtype` None keeps each tensor's own. Refuses a folder that is there."""
    table = {name: name for name in _shapes(source.config)}
    settings = {"format": FORMAT, "version": VERSION, "model": source.config.to_dict()}
    _write("export", source, table, settings, folder, dtype, shard_bytes)


def write_huggingface(
    source: Source, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `source` so that `T5ForConditionalGeneration.from_pretrained` reads it. Refuses a folder that is there."""
    table = huggingface.names(source.config)
    _write("huggingface", source, table, huggingface.config_to(source.config), folder, dtype, shard_bytes)


def export_model(model: T5, folder: Path, vocabulary: bytes | None = None) -> None:
    """Write a model whose parameters are whole tensors as an export."""
    write_export(Source(model.config, dict(model.named_parameters()), vocabulary), folder)


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
        settings: dict = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no config.json; give the folder of a model") from None
    except ValueError as error:
        raise UserError(f"{folder}/config.json is not JSON ({error}); get it again") from error
    return settings


def _shapes(config: T5Config) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in T5(config).named_parameters()}


def _check_names(parameters: Mapping[str, Tensor], config: T5Config, folder: Path) -> None:
    expected = set(_shapes(config))
    if wrong := sorted(expected.symmetric_difference(parameters)):
        what = "lacks" if wrong[0] in expected else "holds an unknown"
        raise UserError(f"{folder} {what} parameter {wrong[0]!r} ({len(wrong)} differ); its files and config differ")


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
    shapes = _shapes(source.config)

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
    parser.add_argument("source", type=Path, help="an export of ours or a Hugging Face folder")
    parser.add_argument("target", type=Path, help="the folder to write; must not exist or be empty")
    parser.add_argument("--to", choices=sorted(_WRITERS), help="what to write; default: the other kind than SOURCE")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), help="default: as stored")
    options = parser.parse_args(arguments)
    try:
        source = open_folder(options.source)
        kind = options.to or ("export" if isinstance(source.parameters, _Renamed) else "huggingface")
        _WRITERS[kind](source, options.target, dtype=_DTYPES.get(options.dtype))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{options.target}: {kind}, {source.config.parameters():,} parameters")


if __name__ == "__main__":
    main()
