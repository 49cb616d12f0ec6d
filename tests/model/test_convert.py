"""Exports, run checkpoints and the command line: what converts comes out equal, what cannot is refused by name."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import UserError
from model.config import T5Config, sized
from model.convert import main, open_folder, open_source, write_export, write_huggingface
from model.initialize import initialize
from model.source import VOCABULARY, Source, load
from model.transformer import T5
from tests.model.exports import export_model

CONFIG = T5Config(vocab_rows=64, d_model=16, d_ff=24, d_kv=4, heads=3, encoder_layers=2, decoder_layers=2)


def drawn(config: T5Config = CONFIG) -> T5:
    model = T5(config)
    initialize(model, 0)
    return model


def same(one: T5, other: T5) -> bool:
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    export_model(drawn(), tmp_path / "export", vocabulary=b"a SentencePiece model")
    return tmp_path / "export"


@pytest.fixture
def hf(export: Path) -> Path:
    main([str(export), str(export.parent / "hf")])
    return export.parent / "hf"


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        sized("v1.1-tiny", vocab_rows=128),
        sized("tiny", architecture="prefix_lm", vocab_rows=128, adapter=8),
        sized("tiny", architecture="shared", vocab_rows=128),
    ],
)
def test_every_model_survives_an_export(config: T5Config, tmp_path: Path) -> None:
    model = drawn(config)
    export_model(model, tmp_path / "export")
    source = open_folder(tmp_path / "export")
    assert source.config == config
    assert source.vocabulary is None
    assert same(load(source), model)


def test_there_and_back_with_the_vocabulary(export: Path, hf: Path, tmp_path: Path) -> None:
    assert (hf / "spiece.model").read_bytes() == b"a SentencePiece model"
    main([str(hf), str(tmp_path / "again")])
    for file in ("config.json", "parameters.safetensors", VOCABULARY):
        assert (tmp_path / "again" / file).read_bytes() == (export / file).read_bytes()


def test_a_narrower_dtype_is_written_on_request(export: Path, tmp_path: Path) -> None:
    main([str(export), str(tmp_path / "hf"), "--dtype", "bfloat16"])
    assert {tensor.dtype for tensor in load_file(tmp_path / "hf/model.safetensors").values()} == {torch.bfloat16}
    main([str(tmp_path / "hf"), str(tmp_path / "back"), "--dtype", "float32"])
    back = load(open_folder(tmp_path / "back"))
    torch.testing.assert_close(back.embedding.weight, drawn().embedding.weight, rtol=0.01, atol=0)


def test_memory_holds_one_file_at_a_time(tmp_path: Path) -> None:
    """Each tensor is asked for once, and only when its file is written."""
    model = drawn()
    written_at_read: list[int] = []

    class Watched(dict):
        def __getitem__(self, name: str) -> torch.Tensor:
            written_at_read.append(len(list((tmp_path / "out.partial").glob("*.safetensors"))))
            return super().__getitem__(name)

    parameters = Watched(model.named_parameters())
    write_export(Source(CONFIG, parameters), tmp_path / "out", shard_bytes=6000)
    assert len(written_at_read) == len(parameters)
    files = len(list((tmp_path / "out").glob("*.safetensors")))
    assert files > 4
    assert set(written_at_read) == set(range(files))
    assert same(load(open_folder(tmp_path / "out")), model)


def test_checkpoints_published_with_copies_are_read(hf: Path, tmp_path: Path) -> None:
    tensors = load_file(hf / "model.safetensors")
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 3)
    save_file(tensors, hf / "model.safetensors")
    assert same(load(open_folder(hf)), drawn())


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_run_converts_from_its_checkpoints(cuts: int, tmp_path: Path) -> None:
    """Whatever parts the ranks of the run wrote, the newest good checkpoint or the one asked for comes out."""
    from data.storage import open_storage
    from orchestrator.checkpoint import AsyncSaver, Chunk

    (tmp_path / "corpus/vocabulary").mkdir(parents=True)
    (tmp_path / "corpus" / VOCABULARY).write_bytes(b"pieces")
    payload = {
        "model": CONFIG.to_dict(),
        "config": {"corpus": str(tmp_path / "corpus")},
        "vocabulary": hashlib.sha256(b"pieces").hexdigest(),
    }
    models = {}
    for step in (5, 9):
        models[step] = model = drawn()
        with torch.no_grad():
            model.embedding.weight += step
        savers = [
            AsyncSaver(open_storage(tmp_path / "run"), rank=rank, world=cuts, attempt=f"a{step}", part_bytes=4000)
            for rank in range(cuts)
        ]
        for rank in reversed(range(cuts)):
            chunks = {}
            for name, parameter in model.named_parameters():
                rows = torch.arange(len(parameter)).tensor_split(cuts)[rank]
                part = parameter.detach()[rows]
                offsets = (int(rows[0]) if len(rows) else 0,) + (0,) * (parameter.ndim - 1)
                chunks[f"param/{name}"] = Chunk(tuple(parameter.shape), offsets, part, True)
                chunks[f"optimizer/{name}/m"] = Chunk(tuple(parameter.shape), offsets, part * 0, True)
            savers[rank].begin(step, chunks, payload)
        for saver in savers:
            assert saver.finish()
    source = open_source(str(tmp_path / "run"))
    assert source.vocabulary == b"pieces"
    assert same(load(source), models[9])
    main([str(tmp_path / "run"), str(tmp_path / "export"), "--to", "export", "--step", "5"])
    assert same(load(open_folder(tmp_path / "export")), models[5])
    with pytest.raises(UserError, match="no checkpoint of step 7; it has: 9, 5"):
        open_source(str(tmp_path / "run"), 7)
    (tmp_path / "corpus" / VOCABULARY).write_bytes(b"others")
    assert open_source(str(tmp_path / "run")).vocabulary is None


def edit(file: Path, **changes: object) -> None:
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | changes))


def test_what_is_wrong_with_a_folder_is_said(export: Path, hf: Path, tmp_path: Path) -> None:
    def refused(folder: Path, message: str) -> None:
        with pytest.raises(UserError, match=message):
            open_folder(folder)

    refused(tmp_path, r"holds no config\.json")
    edit(hf / "config.json", feed_forward_proj="gated-silu")
    refused(hf, "feed_forward_proj to 'gated-silu'")
    edit(hf / "config.json", feed_forward_proj="relu", relative_attention_num_buckets=64)
    refused(hf, "relative_attention_num_buckets to 64; only 32")
    edit(hf / "config.json", relative_attention_num_buckets=32, num_layers=3)
    refused(hf, r"lacks 'encoder\.block\.2\.")
    edit(hf / "config.json", num_layers=1)
    refused(hf, r"holds 'encoder\.block\.1\.")
    edit(hf / "config.json", model_type="bart")
    refused(hf, "neither an export nor a Hugging Face T5")
    (hf / "config.json").write_text("{")
    refused(hf, "is not JSON")
    (hf / "config.json").write_text('{"model_type": "t5", "d_model": 16}')
    refused(hf, "lacks 'vocab_size'")
    (hf / "config.json").write_text("[]")
    refused(hf, "holds no settings")
    edit(export / "config.json", version=2)
    refused(export, "export of version 2; this program reads 1")


def test_damaged_and_missing_files_are_named(export: Path, tmp_path: Path) -> None:
    write_huggingface(open_folder(export), tmp_path / "many", shard_bytes=6000)
    lost = sorted((tmp_path / "many").glob("*.safetensors"))[2]
    data = lost.read_bytes()
    lost.unlink()
    with pytest.raises(UserError, match=f"{lost.name} is missing"):
        open_folder(tmp_path / "many")
    lost.write_bytes(data[:50])
    with pytest.raises(UserError, match=f"cannot read .*{lost.name}"):
        load(open_folder(tmp_path / "many"))
    index = tmp_path / "many/model.safetensors.index.json"
    edit(index, weight_map={"shared.weight": "../export/parameters.safetensors"})
    with pytest.raises(UserError, match="not a file of its folder"):
        open_folder(tmp_path / "many")
    (export / "parameters.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        open_folder(export)
    (export / "parameters.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no parameters\.safetensors"):
        open_folder(export)


def test_a_tensor_of_another_shape_leaves_no_folder(export: Path, tmp_path: Path) -> None:
    edit(export / "config.json", model=CONFIG.to_dict() | {"d_ff": 25})
    with pytest.raises(SystemExit, match=r"has shape \(24, 16\), not \(25, 16\)"):
        main([str(export), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_the_other_side_cannot_hold_is_refused(tmp_path: Path) -> None:
    for name, config in {
        "architecture": sized("tiny", architecture="language_model", vocab_rows=128),
        "adapters": sized("tiny", adapter=4, vocab_rows=128),
    }.items():
        export_model(drawn(config), tmp_path / name)
        with pytest.raises(SystemExit, match=name):
            main([str(tmp_path / name), str(tmp_path / "hf")])
    assert not (tmp_path / "hf").exists()


def test_a_folder_in_use_is_not_written_over(export: Path) -> None:
    with pytest.raises(SystemExit, match="is not empty; give a new folder"):
        main([str(export), str(export)])
    with pytest.raises(SystemExit, match="holds no checkpoint"):
        main([str(export.parent / "nothing"), str(export)])
    shutil.rmtree(export)
