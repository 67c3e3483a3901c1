"""torch.hub as it meets GitHub: a server in this process answers for github.com and its API, over HTTP.

Nothing inside torch.hub is replaced but the host that its requests go to. Speechbrain, torchaudio and onnxruntime
cannot be imported there, and this repository is not on Python's path.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import deepvqe_hub

ROOT = Path(__file__).resolve().parents[1]
COMMITS = {"main": "1a2b3c4d5e6f", "v1": "0f9e8d7c6b5a"}

START = """
import json, sys, urllib.request
for missing in ("speechbrain", "torchaudio", "onnxruntime"):
    sys.modules[missing] = None  # importing it raises ImportError, as if it were not installed
import torch

def urlopen(request, *arguments, **options):
    url = request if isinstance(request, str) else request.full_url
    for host in ("https://github.com", "https://api.github.com"):
        url = url.replace(host, SERVER, 1) if url.startswith(host) else url
    return urllib.request.urlopen(url, *arguments, **options)

torch.hub.urlopen = urlopen
torch.hub.set_dir(CACHE)
wave = 0.1 * torch.sin(torch.arange(4000.0))
"""

QUESTIONS = """
out = {}
load = torch.hub.load
try:
    load("someone/deepvqe-hub:v1", "deepvqe_s", trust_repo=False)  # asks on standard input, which says no
except Exception as error:
    out["untrusted"] = str(error)
try:
    load("someone/deepvqe-hub:v9", "deepvqe_s", trust_repo=True)
except ValueError as error:
    out["no such tag"] = str(error)
model = load("someone/deepvqe-hub:v1", "deepvqe_s", trust_repo=True)
out["v1"] = model(wave).tolist()
out["origin"] = sys.modules["deepvqe_hub"].__file__
out["default branch"] = load("someone/deepvqe-hub", "deepvqe_s", trust_repo="check").sample_rate  # trusted by now
out["entries"] = torch.hub.list("someone/deepvqe-hub:v1")
out["help"] = torch.hub.help("someone/deepvqe-hub:v1", "deepvqe_s")
try:
    load("someone/deepvqe-hub:v1", "enhancer")
except ImportError as error:
    out["enhancer"] = str(error)
print("ANSWER" + json.dumps(out))
"""

AGAIN = """
print("ANSWER" + json.dumps(torch.hub.help("someone/deepvqe-hub:v1", "deepvqe_s", force_reload=FORCE)))
"""

LOCAL = """
model = torch.hub.load(CLONE, "deepvqe_s", source="local")
out = {"wave": model(wave).tolist(), "origin": sys.modules["deepvqe_hub"].__file__}
print("ANSWER" + json.dumps(out))
"""


class GitHub(ThreadingHTTPServer):
    """The few addresses of github.com and api.github.com that torch.hub asks for."""

    def __init__(self, archive: bytes):
        self.archive, self.asked = archive, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.asked.append(path)
        owner = "/someone/deepvqe-hub"
        if path in (f"/repos{owner}/branches", f"/repos{owner}/tags"):
            names = ["main"] if path.endswith("branches") else ["v1"]
            page = [{"name": name, "commit": {"sha": COMMITS[name]}} for name in names]
            self.answer(json.dumps(page if query.endswith("page=1") else []).encode())
        elif path in [f"{owner}/zipball/{ref}" for ref in COMMITS]:
            self.answer(self.server.archive)
        elif path == f"{owner}/tree/main/":
            self.answer(b"<html></html>")
        else:
            self.send_error(404)

    def answer(self, body: bytes):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def archive(clone: Path) -> bytes:
    """A zip as GitHub makes them: everything in one folder named after the commit, that folder first."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for path in (clone, *sorted(clone.rglob("*"))):
            file.write(path, Path("someone-deepvqe-hub-0f9e8d7") / path.relative_to(clone))
    return data.getvalue()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "clone"
    shutil.copytree(ROOT / "deepvqe_hub", folder / "deepvqe_hub", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hubconf.py", folder)
    return folder


@pytest.fixture(scope="module")
def github(clone):
    server = GitHub(archive(clone))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def python(github, clone):
    """Runs a script in a process of its own, away from this repository; gives its answer."""
    cache = clone.parent / "cache"

    def run(script: str, **names):
        names = {"SERVER": github.url, "CACHE": str(cache), "CLONE": str(clone), **names}
        header = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        done = subprocess.run(
            [sys.executable, "-P", "-c", header + START + script],
            capture_output=True,
            text=True,
            input="n\n",
            cwd=clone.parent,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("ANSWER")[1])

    return run


@pytest.fixture(scope="module")
def answers(python):
    return python(QUESTIONS)


@pytest.fixture(scope="module")
def expected():
    wave = 0.1 * torch.sin(torch.arange(4000.0))
    return deepvqe_hub.load("deepvqe-s")(wave).tolist()


def test_from_an_archive(answers, expected, clone):
    """The shipped weights come with the archive and give the numbers they give here."""
    assert answers["v1"] == pytest.approx(expected, abs=1e-6)
    assert answers["origin"].startswith(str(clone.parent / "cache" / "someone_deepvqe-hub_v1"))
    assert answers["default branch"] == 16000
    assert "deepvqe_s" in answers["entries"]


def test_what_torch_hub_asked_for(answers, github):
    paths = [f"/someone/deepvqe-hub/{path}" for path in ("zipball/v1", "tree/main/", "zipball/main")]
    assert [path for path in github.asked if path in paths] == paths  # each archive once; later calls use the cache


def test_refusals(answers):
    assert answers["untrusted"] == "Untrusted repository."
    assert "Cannot find v9" in answers["no such tag"]
    assert "neither" in answers["enhancer"] and "pip install" in answers["enhancer"]


def test_force_reload(answers, python, github, clone):
    """A moved tag is seen when asked for, and only then."""
    text = (clone / "hubconf.py").read_text()
    changed = clone.parent / "changed"
    shutil.copytree(clone, changed)
    (changed / "hubconf.py").write_text(text.replace("Small DeepVQE", "Smaller DeepVQE"))
    github.archive = archive(changed)
    assert python(AGAIN, FORCE=False).startswith("Small DeepVQE")
    assert python(AGAIN, FORCE=True).startswith("Smaller DeepVQE")


def test_from_a_clone(python, clone, expected):
    local = python(LOCAL)
    assert local["wave"] == pytest.approx(expected, abs=1e-6)
    assert local["origin"].startswith(str(clone))
