"""Names that are imported on first use: they are there, and type checkers are told the same ones."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["deepvqe_hub", "deepvqe_hub.demo", "deepvqe_hub.files", "deepvqe_hub.onnx"])
def test_type_checkers_see_what_there_is(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
    told = {alias.asname: f"{line.module}.{alias.name}" for line in block.body for alias in line.names}
    assert set(told) == {*module.__all__, *getattr(module, "_NEEDS", ())} - {"__version__"}
    places = getattr(module, "_EXPORTS", {})
    assert told == {name: f"{places.get(name, package)}.{name}" for name in told}


@pytest.mark.parametrize(
    "name", ["data", "demo", "files", "hub", "models", "onnx", "optim", "protocols", "resampling", "stft"]
)
def test_submodules_need_no_import_of_their_own(name):
    import deepvqe_hub

    assert name in dir(deepvqe_hub)
    assert deepvqe_hub.__getattr__(name) is importlib.import_module(f"deepvqe_hub.{name}")


@pytest.mark.parametrize("stand_in", ["types.ModuleType(name)", "unittest.mock.MagicMock()", "None"])
def test_extras_may_be_stood_in_for(stand_in):
    code = f"""
import sys, types, unittest.mock
for name in ("speechbrain", "matplotlib"):
    sys.modules[name] = {stand_in}
import deepvqe_hub
assert deepvqe_hub.load and "Enhancer" not in dir(deepvqe_hub)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_extras_the_rest_can_be_listed_and_help_be_had():
    code = """
import sys
sys.modules["speechbrain"] = None
import pydoc
import deepvqe_hub
from deepvqe_hub import *
assert load and "Enhancer" not in dir(deepvqe_hub)
assert "EnhancementModel" in pydoc.render_doc(deepvqe_hub)
for name in ("Enhancer", "training"):
    try:
        getattr(deepvqe_hub, name)
    except ImportError as error:
        assert "pip install 'deepvqe-hub[" in str(error)
    else:
        raise AssertionError(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def undescribed(function, name):
    """What type checkers are not told of a function: parameters and the result."""
    signature = inspect.signature(function)
    parts = {**signature.parameters, "return": signature.return_annotation}
    if inspect.isclass(function) or name.endswith("__init__"):
        del parts["return"]
    for part, value in parts.items():
        if part not in ("self", "cls") and getattr(value, "annotation", value) is inspect.Signature.empty:
            yield f"{name}({part})"


OPEN = ["data", "files", "hub", "losses", "metrics", "models", "onnx", "optim", "pipelines", "stft"]


@pytest.mark.parametrize("name", ["", *(f".{part}" for part in OPEN)])
def test_public_functions_tell_type_checkers_everything(name):
    module = importlib.import_module(f"deepvqe_hub{name}")
    bare = []
    for public in getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]:
        thing = getattr(module, public)
        if not getattr(thing, "__module__", "").startswith("deepvqe_hub"):
            continue
        if inspect.isclass(thing):
            for method, value in vars(thing).items():
                value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
                if inspect.isfunction(value) and (not method.startswith("_") or method in ("__init__", "__call__")):
                    bare += undescribed(value, f"{public}.{method}")
        elif callable(thing):
            bare += undescribed(thing, public)
    assert not bare
