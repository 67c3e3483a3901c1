"""torch.hub: entry points from a clone that is not on Python's path, and from an archive as GitHub serves it."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hub_server import TINY

from deepvqe_hub import EnhancementModel
from deepvqe_hub.hub import registry, save_folder

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = {"deepvqe", "deepvqe_s", "deepvqe_aec", "deepvqe_aec_s", "dpcrn", "dpcrn_light", "tf_gridnet", "enhancer"}

SCRIPT = """
import json, sys
for missing in ("speechbrain", "torchaudio", "onnxruntime"):
    sys.modules[missing] = None  # importing it raises ImportError, as if it were not installed
import torch
torch.hub.set_dir(HUB)
torch.hub._git_archive_link = lambda owner, name, ref: ARCHIVE
out = {}
model = torch.hub.load(CLONE, "deepvqe_aec_s", source="local", pretrained=False)
out["local"] = [list(model(torch.randn(1, 3000)).shape), sum(p.numel() for p in model.parameters())]
out["origin"] = sys.modules["deepvqe_hub"].__file__
model = torch.hub.load(CLONE, "deepvqe", source="local", checkpoint=CHECKPOINT)
out["checkpoint"] = [model.sample_rate, model.training]
model.save_pretrained(SAVED)  # later imports work as well
try:
    torch.hub.load(CLONE, "enhancer", CHECKPOINT, source="local")
except ImportError as error:
    out["enhancer"] = str(error)
try:
    torch.hub.load(CLONE, "deepvqe_s", source="local", pretrained=False, colour="red")
except ValueError as error:
    out["options"] = str(error)
usual = dict(source="local", progress=False, map_location="meta")
models = [torch.hub.load(CLONE, "deepvqe_s", pretrained=pretrained, **usual) for pretrained in (True, False)]
out["devices"] = [str(next(model.parameters()).device) for model in models]
try:
    torch.hub.load(CLONE, "dpcrn_light", source="local")
except FileNotFoundError as error:
    out["weights"] = str(error)
for entry in ("deepvqe_aec_s", "tf_gridnet"):
    try:
        torch.hub.load(CLONE, entry, source="local", checkpoint=CHECKPOINT)
    except ValueError as error:
        out[entry] = str(error)
where = dict(trust_repo=True, skip_validation=True)
out["list"] = torch.hub.list("someone/deepvqe-hub:v1", force_reload=True, **where)
out["help"] = {name: torch.hub.help("someone/deepvqe-hub:v1", name, **where) for name in out["list"]}
out["github"] = torch.hub.load("someone/deepvqe-hub:v1", "deepvqe_s", pretrained=False, **where).sample_rate
print("ANSWER" + json.dumps(out))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    clone = folder / "clone"
    shutil.copytree(ROOT / "deepvqe_hub", clone / "deepvqe_hub", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hubconf.py", clone)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for path in (clone, *clone.rglob("*")):  # the folder itself first: torch.hub takes its name from there
            archive.write(path, Path("someone-deepvqe-hub-1a2b3c") / path.relative_to(clone))
    places = {
        "CLONE": str(clone),
        "ARCHIVE": (folder / "archive.zip").as_uri(),
        "HUB": str(folder / "cache"),
        "CHECKPOINT": str(save_folder(EnhancementModel.from_config(TINY), folder / "checkpoint")),
        "SAVED": str(folder / "saved"),
    }
    header = "".join(f"{name} = {value!r}\n" for name, value in places.items())
    run = subprocess.run(
        [sys.executable, "-P", "-c", header + SCRIPT],
        capture_output=True,
        text=True,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout.split("ANSWER")[1])
    return answers | {"clone": str(clone), "saved": folder / "saved"}


def test_local(answers):
    assert answers["local"] == [[1, 3000], 589_103]
    assert answers["origin"].startswith(answers["clone"])
    assert answers["checkpoint"] == [16000, False]
    assert (answers["saved"] / "model.safetensors").is_file()


def test_usual_words(answers):
    """Of other projects' entry points."""
    assert answers["devices"] == ["meta", "meta"]
    assert "no weights for dpcrn-light" in answers["weights"] and "pretrained=False" in answers["weights"]


def test_usual_words_for_speechbrain():
    pytest.importorskip("speechbrain")
    enhancer = torch.hub.load(str(ROOT), "enhancer", source="local", progress=False, map_location="cpu")
    assert enhancer.sample_rate == 16000


def test_github(answers):
    assert set(answers["list"]) == ENTRIES
    assert answers["github"] == 16000


def test_every_entry_is_registered():
    """For the checkpoints that it takes: those like its own model."""
    registered = {entry: kind for kind, entries in registry.HUB_ENTRIES.items() for entry in entries}
    assert registered.keys() == ENTRIES - {"enhancer"}
    for entry, kind in registered.items():
        model = registry.ENTRIES[entry.replace("_", "-")].skeleton()
        assert kind == (model.config["network"], model.farend)


def test_every_entry_is_documented(answers):
    for name, text in answers["help"].items():
        for part in ("Args:", "Returns:", "Example:", "torch.hub.load", f'"{name}"'):
            assert part in text, (name, part)


def test_entries_promise_the_weights_there_are():
    tree = ast.parse((ROOT / "hubconf.py").read_text(encoding="utf-8"))
    for function in (node for node in tree.body if getattr(node, "name", "enhancer") in ENTRIES - {"enhancer"}):
        entry = registry.ENTRIES[function.name.replace("_", "-")]
        assert ("no weights ship" in ast.get_docstring(function)) == (not entry.embedded), entry.name


def test_a_checkpoint_in_the_place_of_pretrained_is_not_passed_over():
    with pytest.raises(ValueError, match=r"not 'mine\.tar'; give other weights as checkpoint="):
        torch.hub.load(str(ROOT), "deepvqe_s", "mine.tar", source="local")


def test_errors(answers):
    assert "pip install" in answers["enhancer"] and "neither" in answers["enhancer"]
    assert "colour" in answers["options"]
    for entry in ("deepvqe_aec_s", "tf_gridnet"):
        assert answers[entry].endswith("checkpoint is a DeepVQE with no far end; load it by deepvqe_s or deepvqe")
