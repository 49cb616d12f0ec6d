"""Every flipped or missing byte of a committed checkpoint is refused, named, and the older checkpoint is found."""

import json

import pytest
import safetensors.torch
import torch

from data.errors import UserError
from orchestrator.checkpoint import CheckpointDamaged, Manifest, newest, resume, scan, verify
from orchestrator.checkpoint.catalog import read_manifest
from orchestrator.checkpoint.format import folder_name, parse_folder, seal, unseal
from tests.orchestrator.checkpoint.layouts import blank, cut, same, save, savers, state_of, whole
from tests.orchestrator.memory import MemoryStorage


@pytest.fixture
def storage() -> MemoryStorage:
    """Steps 10 and 20, saved by two ranks in files of at most 64 bytes of tensors."""
    storage = MemoryStorage()
    group = savers([storage.view(), storage.view()], "1.a", part_bytes=64)
    assert save(group, 10)
    assert save(group, 20)
    return storage


def newest_paths(storage: MemoryStorage) -> list[str]:
    return [path for path in storage.list() if "step-000000020" in path]


def test_every_flipped_bit_and_every_cut_of_every_file_is_refused(storage: MemoryStorage) -> None:
    trials = 0
    for path in newest_paths(storage):
        good = storage.objects.content[path]
        for position in range(len(good)):
            flipped = bytearray(good)
            flipped[position] ^= 1 << (position % 8)
            for bad in (bytes(flipped), good[:position]):
                storage.objects.content[path] = bad
                folder = scan(storage)[0]
                with pytest.raises(CheckpointDamaged, match=r"step-000000020-1\.a\.2"):
                    verify(storage, read_manifest(storage, folder))
                trials += 1
        storage.objects.content[path] = good
    assert trials > 2000
    assert newest(storage).manifest.step == 20


def test_a_lost_file_is_named_and_the_older_checkpoint_found(storage: MemoryStorage) -> None:
    for path in newest_paths(storage):
        good = storage.objects.content.pop(path)
        found = newest(storage)
        assert found.manifest.step == 10
        if not path.endswith("manifest.json"):
            assert [skip.step for skip in found.skipped] == [20]
            assert path.rpartition("/")[2] in found.skipped[0].reason
        storage.objects.content[path] = good


def test_resume_falls_back_and_reports_what_it_passed_over(storage: MemoryStorage) -> None:
    path = next(path for path in newest_paths(storage) if path.endswith("00001-of-00002-000.safetensors"))
    data = bytearray(storage.objects.content[path])
    data[-1] ^= 4
    storage.objects.content[path] = bytes(data)
    chunks = blank(cut(state_of(0), 0, 1))
    found = resume(storage, chunks)
    assert found.manifest.step == 10
    assert same(whole(chunks), state_of(10))
    assert found.skipped[0].folder == "step-000000020-1.a.2"
    assert "SHA-256" in found.skipped[0].reason


def test_nothing_is_not_damage_but_only_damaged_ones_are(storage: MemoryStorage) -> None:
    chunks = cut(state_of(3), 0, 1)
    assert resume(MemoryStorage(), chunks) is None
    assert newest(MemoryStorage()) is None
    assert same(whole(chunks), state_of(3))
    for path in storage.list():
        if path.endswith("manifest.json"):
            storage.objects.content[path] = b"{}"
    for attempt in (lambda: newest(storage), lambda: resume(storage, chunks)):
        with pytest.raises(CheckpointDamaged, match="none of the 2 committed checkpoints is good"):
            attempt()


def test_order_is_by_step_and_foreign_names_are_left_alone(storage: MemoryStorage) -> None:
    for name in ("step-30-x", "latest", "step-000000030-X", "step-000000030"):
        storage.write(f"checkpoints/{name}/manifest.json", b"")
    # An older step written last, as by a clock that was set back, changes nothing.
    late = savers([storage.view()], "9.z")
    assert save(late, 15)
    assert [folder.step for folder in scan(storage)] == [20, 15, 10]
    assert newest(storage).manifest.step == 20


def test_a_renamed_folder_is_refused(storage: MemoryStorage) -> None:
    for path in newest_paths(storage):
        storage.write(path.replace("step-000000020", "step-000000040"), storage.read(path))
    found = newest(storage)
    assert found.manifest.step == 20
    assert "renamed or copied" in found.skipped[0].reason


def test_files_are_plain_safetensors(storage: MemoryStorage) -> None:
    manifest = newest(storage).manifest
    rows = {}
    for file in manifest.files:
        rows |= safetensors.torch.load(storage.read(f"checkpoints/{manifest.folder}/{file.name}"))
    parts = {name: part for name, part in rows.items() if name.startswith("param/embedding@")}
    joined = torch.cat([parts[name] for name in sorted(parts, key=lambda name: int(name.split("@")[1].split(",")[0]))])
    assert torch.equal(joined, state_of(20)["param/embedding"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body["files"][0].__setitem__(0, "../../lease.json"), "bad file entry"),
        (lambda body: body["files"][0].__setitem__(1, -1), "bad file entry"),
        (lambda body: body["tensors"]["param/scale"][2][0].__setitem__(1, 10**9), "bad part"),
        (lambda body: body["tensors"]["param/scale"][2][0].__setitem__(0, 99), "bad part"),
        (lambda body: body["tensors"]["param/scale"][2][0][2].__setitem__(0, 4), "bad part"),
        (lambda body: body["tensors"]["param/scale"].__setitem__(1, "pickle"), "not a manifest"),
        (lambda body: body.__setitem__("kind", "eternal"), "kind"),
        (lambda body: body.pop("files"), "not a manifest"),
        (lambda body: body.__setitem__("format", 2), "format 2"),
    ],
)
def test_a_sealed_but_inconsistent_manifest_is_refused(storage: MemoryStorage, change, message: str) -> None:
    path = "checkpoints/step-000000020-1.a.2/manifest.json"
    body = unseal(storage.read(path), path)
    change(body)
    with pytest.raises(CheckpointDamaged, match=message):
        Manifest.decode(seal(body), "step-000000020-1.a.2")


def test_manifest_survives_the_round_trip(storage: MemoryStorage) -> None:
    path = "checkpoints/step-000000020-1.a.2/manifest.json"
    manifest = Manifest.decode(storage.read(path), "step-000000020-1.a.2")
    assert manifest.encode() == storage.read(path)
    assert manifest.payload == {"step": 20, "scattered": {"0": [20, 0], "1": [20, 1]}}
    sizes = {p.rpartition("/")[2]: len(storage.read(p)) for p in newest_paths(storage) if p.endswith("tensors")}
    assert {file.name: file.size for file in manifest.files} == sizes
    assert json.loads(storage.read(path).split(b"\n")[1])["kind"] == "permanent"


def test_folder_names() -> None:
    assert folder_name(5000, "3.ab12.1") == "step-000005000-3.ab12.1"
    assert parse_folder("step-000005000-3.ab12.1") == (5000, "3.ab12.1")
    for step, attempt in ((10**9, "a"), (-1, "a"), (1, "a/b"), (1, "A"), (1, "")):
        with pytest.raises(UserError, match="no checkpoint folder"):
            folder_name(step, attempt)
