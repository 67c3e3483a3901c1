"""Packages of the extras: what is said where one is missing or broken, and when they are imported."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import deepvqe_hub
from deepvqe_hub._optional import locate, need
from deepvqe_hub.cli import main


def test_a_package_that_is_there_is_returned():
    assert need("json.decoder", "this").JSONDecoder
    assert locate("json", "this").name == "json"


@pytest.mark.parametrize("find", [need, locate])
def test_a_missing_package_is_named_with_the_command_that_installs_it(find):
    with pytest.raises(ModuleNotFoundError, match=r'^drawing needs the package "no-such": pip install no-such$'):
        find("no_such", "drawing")
    with pytest.raises(ModuleNotFoundError, match=r'^drawing .* pip install "deepvqe-hub\[plot\]"$'):
        find("no_such", "drawing", "plot")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import not_there", "No module named 'not_there'"),
        ("from json import nothing", "cannot import name 'nothing'"),
        ("raise OSError('libsound.so: no such file')", "libsound.so: no such file"),
        ("raise RuntimeError('built for another CUDA')", "built for another CUDA"),
    ],
)
def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch, line, reason):
    (tmp_path / "is_broken.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=f'this needs the package "is-broken", which cannot be imported: {reason}'):
        need("is_broken", "this", "onnx")


@pytest.fixture
def checkpoint(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(tiny.CONFIG).eval()
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_exporting_names_the_extra(checkpoint, tmp_path, monkeypatch, capsys, package):
    if package == "onnxruntime":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'"{package}": pip install "deepvqe-hub\[onnx\]"'):
        deepvqe_hub.load(checkpoint, backend="onnx")
    with pytest.raises(ImportError, match=rf'"{package}": pip install "deepvqe-hub\[onnx\]"'):
        deepvqe_hub.onnx.export(deepvqe_hub.load(checkpoint), tmp_path / "model.onnx")
    for command in ("export", "convert"):
        assert main([command, str(checkpoint), str(tmp_path / "model.onnx")]) == 2
        assert f'"{package}": pip install "deepvqe-hub[onnx]"' in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("matplotlib", "deepvqe_hub.plots", "plot"), ("gradio", "deepvqe_hub.demo.page", "demo")],
)
def test_modules_that_need_a_package_name_the_extra(monkeypatch, package, module, extra):
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'"{package}": pip install "deepvqe-hub\[{extra}\]"'):
        importlib.import_module(module)


def test_foreign_formats_name_what_reads_them(monkeypatch, tmp_path):
    from deepvqe_hub.hub import dpcrn_h5, gguf_file

    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'"gguf": pip install "deepvqe-hub\[gguf\]"'):
        gguf_file.read(tmp_path / "model.gguf")
    with pytest.raises(ImportError, match=r'"h5py": pip install h5py'):
        dpcrn_h5.read(tmp_path / "model.h5")


def test_nothing_optional_is_imported_before_it_is_needed():
    root = Path(deepvqe_hub.__file__).parents[1]
    modules = "cli data enhancement files hub losses metrics onnx.exporting onnx.streams optim perceptual pipelines"
    code = f"""
import importlib, sys
from deepvqe_hub import *
for name in {modules.split()!r}:
    importlib.import_module(f"deepvqe_hub.{{name}}")
from deepvqe_hub.cli import build_parser
build_parser()
optional = {{"onnx", "onnxruntime", "matplotlib", "gradio", "gguf", "h5py", "sounddevice", "torchaudio", "speechbrain"}}
optional |= {{"pesq", "pystoi", "speechmos", "torch_pesq", "torch_stoi"}}
assert not optional & set(sys.modules), optional & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
