"""Malicious and mistaken files: nothing runs, nothing asks for more memory than it should, and the error says why."""

import argparse
import collections
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deepvqe_hub import load
from deepvqe_hub.hub import CheckpointError


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickles_with_code_do_not_run(tmp_path):
    import pickle

    torch.save({"model": {"x": Payload(str(tmp_path / "ran"))}}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load(tmp_path / "x.tar")
    (tmp_path / "y.tar").write_bytes(pickle.dumps(Payload(str(tmp_path / "ran"))))
    with pytest.raises(CheckpointError, match="pickle"):
        load(tmp_path / "y.tar")
    assert not (tmp_path / "ran").exists()


def test_pickles_cannot_ask_for_memory(tmp_path):
    torch.save({"model": bytearray(100)}, tmp_path / "x.tar")  # torch writes it out; a stranger would give its length
    torch.load(tmp_path / "x.tar", weights_only=True)
    with pytest.raises(CheckpointError, match=r"more than tensors.*bytearray"):
        load(tmp_path / "x.tar")
    with zipfile.ZipFile(tmp_path / "x.tar") as there, zipfile.ZipFile(tmp_path / "y.tar", "w") as renamed:
        for name in there.namelist():
            renamed.writestr(name.replace("data.pkl", "DATA.PKL"), there.read(name))
    torch.load(tmp_path / "y.tar", weights_only=True)  # finds it all the same
    with pytest.raises(CheckpointError, match=r"more than tensors.*bytearray"):
        load(tmp_path / "y.tar")


class Elements:
    """All elements of a tensor that stands still in memory; a stranger would give it a larger size."""

    def __init__(self, kind, *size):
        self.kind, self.size = kind, size

    def __reduce__(self):
        return self.kind, (torch.zeros(1).expand(*self.size),)


@pytest.mark.parametrize(
    "elements", [Elements(set, 50), Elements(torch.Size, 50), Elements(collections.OrderedDict, 50, 2)]
)
def test_elements_of_tensors_are_not_gathered(tmp_path, elements):
    torch.save({"model": elements}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load(tmp_path / "x.tar")


HUGE = {
    "bytearray": b"\x80\x05}X\x01\0\0\0a\x96" + struct.pack("<Q", 1 << 30) + b"s.",
    "memo": b"\x80\x02}r" + struct.pack("<I", 1 << 30) + b".",
    "sizes": b"\x80\x02](X\x00\x00\x10\x00" + b"x" * (1 << 20) + b"q\x000" + b"ctorch\nSize\nh\x00\x85R" * 300 + b"e.",
    "attributes": (
        b"\x80\x02](}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(40_000)) + b"uq\x000"
        + b"ccollections\nOrderedDict\n)Rh\x00b" * 100 + b"e."
    ),
}  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("name", HUGE)
def test_pickles_of_few_bytes_take_little_memory(tmp_path, name):
    torch.save({}, tmp_path / "x.tar")
    with zipfile.ZipFile(tmp_path / "x.tar") as there, zipfile.ZipFile(tmp_path / "y.tar", "w") as changed:
        for member in there.namelist():
            changed.writestr(member, HUGE[name] if member.endswith("data.pkl") else there.read(member))
    code = f"""
import resource
from deepvqe_hub.hub import CheckpointError
from deepvqe_hub.hub.torch_archive import load_tensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
virtual = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (virtual + (2 << 30), -1))  # or one that asks for all of it takes the machine
error = ""
try:
    load_tensors({str(tmp_path / "y.tar")!r})
except CheckpointError as refused:
    error = refused
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes, error = done.stdout.split(" ", 1)
    assert int(kilobytes) < 50_000 and (("more than tensors" in error) == (name != "memo"))


def test_what_optimizers_and_schedules_keep_is_left_out(seed_weights, tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    parameter.sum().backward()
    optimizer.step()
    kept = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "where": torch.device("cpu")}
    torch.save({"model": seed_weights} | kept, tmp_path / "x.tar")
    path = os.fsencode(tmp_path) + b"/caf\xe9.tar"  # a name that is no text
    os.rename(tmp_path / "x.tar", path)
    assert torch.equal(load(os.fsdecode(path)).network.bottle.fc.bias, seed_weights["bottle.fc.bias"])


@pytest.mark.parametrize(
    ("kept", "name"),
    [
        (np.float64(2.5), r"numpy\S*multiarray.scalar"),
        (np.random.get_state(), r"numpy\S*_reconstruct"),
        (argparse.Namespace(lr=1e-3), "argparse.Namespace"),
        (Path("data"), "pathlib.*Path"),
        (collections.defaultdict(list), "collections.defaultdict"),
        ({1, 2}, r"\S*builtin\S*set"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_else_trainers_keep_is_named_with_a_remedy(kept, name, seed_weights, tmp_path):
    path = tmp_path / "x.tar"
    torch.save({"model": seed_weights, "kept": kept}, path)
    with pytest.raises(CheckpointError, match=rf"more than tensors.* {name}\. Ask .* of the weights alone"):
        load(os.fsdecode(path))
    torch.save(seed_weights, path)  # which is what it recommends
    assert torch.equal(load(os.fsdecode(path)).network.bottle.fc.bias, seed_weights["bottle.fc.bias"])


def test_gguf_metadata_cannot_ask_for_memory(tmp_path):
    pytest.importorskip("gguf")
    key, array = struct.pack("<Q", 1) + b"x", struct.pack("<IIQ", 9, 0, 1 << 60)
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + array)
    with pytest.raises(CheckpointError, match="array"):
        load(tmp_path / "x.gguf")


def test_what_could_not_be_loaded_is_not_saved(model, folder):
    before = (folder / "model.safetensors").read_bytes()
    model.network = model.network.folded()
    with pytest.raises(ValueError, match=r"the model to save.*missing"):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_loads_in_float32_whatever_the_default(folder):
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = load(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_zip_bombs_are_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.tar", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * (1 << 24))
    with pytest.raises(CheckpointError, match="compressed"):
        load(tmp_path / "x.tar")
    with zipfile.ZipFile(tmp_path / "y.tar", "w") as archive:
        archive.writestr("../../escape.txt", b"x")
    with pytest.raises(CheckpointError):
        load(tmp_path / "y.tar")
    assert not (tmp_path.parent.parent / "escape.txt").exists()


def test_archives_are_no_larger_than_models(monkeypatch, seed_weights, tmp_path):
    torch.save({"model": seed_weights}, tmp_path / "x.tar")
    monkeypatch.setattr("deepvqe_hub.hub.torch_archive.MAX_BYTES", 1 << 20)
    with pytest.raises(CheckpointError, match="more than 1,048,576 bytes"):
        load(tmp_path / "x.tar")


def test_tensors_that_only_look_huge(seed_weights, tmp_path):
    weights = seed_weights | {"bottle.fc.bias": torch.zeros(1).expand(1 << 40)}
    torch.save({"model": weights}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match=r"network.bottle.fc.bias \(1099511627776,\)"):
        load(tmp_path / "x.tar")


def test_tensors_of_other_kinds(folder, seed_weights, tmp_path):
    name, weight = "bottle.fc.weight", seed_weights["bottle.fc.weight"]
    for odd, words in (
        (torch.empty_like(weight, device="meta"), "no plain tensors"),
        (weight.to_sparse(), "no plain tensors"),
        (torch.nested.nested_tensor([torch.zeros(3), torch.zeros(4)]), "no plain tensors"),
        (weight.to(torch.float8_e5m2), "types"),
    ):
        torch.save({"model": {**seed_weights, name: odd}}, tmp_path / "x.tar")
        with pytest.raises(CheckpointError, match=f"{words}: network.{name}"):
            load(tmp_path / "x.tar")
    torch.save({"model": {(1, 2): weight}}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match="no state dict"):
        load(tmp_path / "x.tar")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {f"network.{name}": weight.to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_odd_arrays_and_metadata(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("nothing", data=h5py.Empty("f4"))
    with pytest.raises(CheckpointError, match=r"x\.h5"):
        load(tmp_path / "x.h5")
    gguf = pytest.importorskip("gguf")
    from deepvqe_hub.hub.gguf_file import CUBE_ROOTS

    for roots, words in ((CUBE_ROOTS, "mic_channels.count must be of type int"), ({"ccm.v_real": [1.0]}, "constant")):
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", "deepvqe")
        writer.add_uint32("deepvqe.version", 1)
        writer.add_bool("deepvqe.bn_folded", True)
        writer.add_string("deepvqe.mic_channels.count", "many")
        for name, value in roots.items():
            writer.add_tensor(name, np.array(value, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / "x.gguf")


def test_gguf_tensors_are_counted_before_they_are_unpacked(tmp_path, monkeypatch):
    gguf = pytest.importorskip("gguf")
    from deepvqe_hub.hub import gguf_file

    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "deepvqe")
    blocks = gguf.quantize(np.ones((64, 1024), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("dec.1.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    size = (tmp_path / "x.gguf").stat().st_size
    monkeypatch.setattr(gguf_file, "MAX_BYTES", 2 * size)  # of the file; its numbers take four times as much
    with pytest.raises(CheckpointError, match="its tensors are larger"):
        load(tmp_path / "x.gguf")


def test_other_files(tmp_path, folder):
    import tarfile

    with tarfile.open(tmp_path / "real.tar", "w") as archive:
        archive.add(folder / "config.json", "../config.json")
    for name, data, words in (
        ("real.tar", None, "unpack"),
        ("empty.tar", b"", "empty"),
        ("noise.tar", bytes(range(32, 232)), "no format"),
        ("graph.onnx", b"\x08\x07", "cannot open"),
        ("keras.h5", b"\x89HDF\r\n", "keras.h5"),
        ("cut.tar", b"PK\x03\x04" + bytes(40), "damaged"),
        ("cut.gguf", b"GGUF\x03\0\0\0" + b"\xff" * 16, "GGUF"),
        ("model.safetensors", b"\0" * 16, "folder"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / name)
    with pytest.raises(CheckpointError, match="OnnxStream"):
        load(tmp_path / "graph.onnx", backend="torch")
    with pytest.raises(FileNotFoundError):
        load("missing.tar")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load(tmp_path)
