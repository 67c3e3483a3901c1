"""The Hugging Face Hub, end to end against a local server: the client, in processes of its own, reads HF_ENDPOINT."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import TINY, Fault, HubServer, Repo

from deepvqe_hub import EnhancementModel
from deepvqe_hub.hub import save_folder

ROOT = Path(__file__).resolve().parents[1]

# Runs lines of Python as they come, each of which leaves a result or an error.
CLIENT = """
import json, sys
import huggingface_hub, torch, deepvqe_hub
from deepvqe_hub import EnhancementModel, load

def total(model):
    return float(sum(p.detach().double().abs().sum() for p in model.parameters()))

torch.set_num_threads(1)
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1024  # for a cut in the middle of a small file to have a middle
for line in sys.stdin:
    result = None
    try:
        exec(json.loads(line))
        answer = {"result": result}
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        answer = {"error": kinds[0], "message": str(error), "kinds": kinds}
    print("ANSWER" + json.dumps(answer), flush=True)
"""


class Client:
    def __init__(self, server: HubServer, home: Path, **variables: str):
        env = os.environ | {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # the LFS protocol is the one that the server speaks
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": "hf_test",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        env.pop("HF_HUB_OFFLINE", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env | variables,
        )

    def send(self, code: str) -> None:
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def __call__(self, code: str) -> dict:
        self.send(code)
        for line in self.process.stdout:
            if line.startswith("ANSWER"):
                return json.loads(line[6:])
        raise RuntimeError("the client died")


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hf")


@pytest.fixture(scope="module")
def client(server, home):
    client = Client(server, home)
    yield client
    client.process.kill()


@pytest.fixture(scope="module")
def offline(server, home):
    client = Client(server, home, HF_HUB_OFFLINE="1")
    yield client
    client.process.kill()


def total(model) -> float:
    return float(sum(p.detach().double().abs().sum() for p in model.parameters()))


@pytest.fixture
def published(server, tmp_path, request):
    """A model, and the name of its repository, which no other test uses."""
    model = EnhancementModel.from_config(TINY)
    folder = save_folder(model, tmp_path / "published")
    name = f"owner/{request.node.name.replace('_', '-').replace('[', '.').replace(']', '')}"
    server.repos[name] = Repo()
    server.repos[name].commit({path.name: path.read_bytes() for path in folder.iterdir()})
    server.faults.clear()
    server.requests.clear()
    return name, model


def test_load_and_cache(client, offline, server, published):
    name, model = published
    assert offline(f"load({name!r})")["error"] == "NotCachedError"
    assert client(f"result = total(load({name!r}))")["result"] == pytest.approx(total(model))
    assert [path for verb, path, _ in server.requests if verb == "GET" and path.endswith(".yaml")] == []
    server.requests.clear()
    code = f"result = total(EnhancementModel.from_pretrained({name!r}))"
    assert client(code)["result"] == pytest.approx(total(model))
    assert not [request for request in server.requests if request[0] == "GET"], "the cache is there to be used"
    server.requests.clear()
    assert offline(f"result = total(load({name!r}))")["result"] == pytest.approx(total(model))
    assert client(f"result = total(load({name!r}, local_files_only=True))")["result"] == pytest.approx(total(model))
    assert server.requests == []


def test_the_server_is_asked_once_for_what_is_cached(client, server, published):
    name, _ = published
    client(f"load({name!r})")
    server.requests.clear()
    client(f"load({name!r})")
    assert [(verb, path) for verb, path, _ in server.requests] == [("HEAD", f"/{name}/resolve/main/config.json")]
    server.requests.clear()
    commit = server.repos[name].refs["main"]
    client(f"load({name!r}, revision={commit!r})")
    assert server.requests == []


def test_all_files_are_of_one_commit(client, server, published):
    name, _ = published
    client(f"from deepvqe_hub.hub.download import Repository; repo = Repository({name!r})")
    client("path = repo.file('config.json')")
    repo = server.repos[name]
    repo.commit({**repo.commits[repo.refs["main"]], "model.safetensors": b"of another model"})  # the branch moves
    answer = client("pinned = repo.pinned(path); result = pinned.file('model.safetensors').parent == path.parent")
    assert answer["result"] is True
    assert client("result = str(pinned)")["result"] == name


def test_revisions(client, offline, server, published):
    name, _ = published
    repo = server.repos[name]
    first = repo.refs["main"]
    repo.refs["v1"] = first
    other = {**TINY, "sample_rate": 8000}
    repo.commit({**repo.commits[first], "config.json": json.dumps(other).encode()})
    assert client(f"result = load({name!r}).sample_rate")["result"] == 8000
    for revision in ("v1", first):
        assert client(f"result = load({name!r}, revision={revision!r}).sample_rate")["result"] == 16000
    assert offline(f"result = load({name!r}, revision='v1').sample_rate")["result"] == 16000
    repo.refs["refs/pr/1"] = first
    for at in ("v1", "refs/pr/1"):
        assert client(f"result = load('{name}@{at}').sample_rate")["result"] == 16000
    assert client(f"result = EnhancementModel.from_pretrained('{name}@v1').sample_rate")["result"] == 16000
    answer = client(f"load('{name}@v1', revision='v2')")
    assert answer["error"] == "ValueError" and "another" in answer["message"]
    answer = client(f"load({name!r}, revision='v9')")
    assert answer["error"] == "RevisionMissingError" and "v9" in answer["message"]


def test_errors_tell_apart(client, server, published):
    name, _ = published
    answer = client("load('owner/nothing-here')")
    assert answer["error"] == "RepositoryMissingError" and "FileNotFoundError" in answer["kinds"]
    assert client("load('owner/name/with/too/many')")["error"] == "FileNotFoundError"
    server.repos["owner/gated"] = Repo(gated=True)
    answer = client("load('owner/gated')")
    assert answer["error"] == "GatedRepositoryError" and "accept" in answer["message"]
    files = server.repos[name].commits[server.repos[name].refs["main"]]
    for lacking in ("config.json", "model.safetensors"):
        repo = f"owner/without-{lacking.split('.')[0]}"
        server.repos[repo] = Repo()
        server.repos[repo].commit({k: v for k, v in files.items() if k != lacking})
        answer = client(f"load({repo!r})")
        assert answer["error"] == "CheckpointError" and lacking in answer["message"] and "ValueError" in answer["kinds"]
    config = json.loads(files["config.json"]) | {"format_version": 99}
    server.repos["owner/future"] = Repo()
    server.repos["owner/future"].commit({**files, "config.json": json.dumps(config).encode()})
    answer = client("load('owner/future')")
    assert answer["error"] == "FormatVersionError" and "99" in answer["message"] and "upgrade" in answer["message"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "model.safetensors", "GET"),
        Fault("status", "model.safetensors", "HEAD"),
        Fault("cut", "model.safetensors"),
        Fault("short", "model.safetensors"),
        Fault("corrupt", "model.safetensors"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}",
)
def test_passing_faults(client, server, published, fault):
    name, model = published
    server.faults.append(fault)
    assert client(f"result = total(load({name!r}))").get("result") == pytest.approx(total(model))
    assert fault.times == 0
    if fault.kind == "cut":
        assert any(wanted.startswith("bytes=") for _, path, wanted in server.requests), "resumed, not begun again"


@pytest.mark.parametrize("kind", ["status", "corrupt"])
def test_lasting_faults_leave_the_cache_sound(client, offline, server, published, kind):
    name, model = published
    server.faults.append(Fault(kind, "model.safetensors", times=-1))
    answer = client(f"load({name!r})")
    assert answer["error"] == "DownloadError" and name in answer["message"]
    assert "error" in offline(f"load({name!r})")
    server.faults.clear()
    assert client(f"result = total(load({name!r}))")["result"] == pytest.approx(total(model))


def test_killed_in_the_middle(client, server, home, published):
    name, model = published
    server.faults.append(Fault("stall", "model.safetensors", value=60))
    victim = Client(server, home)
    victim.send(f"load({name!r})")
    deadline = time.monotonic() + 60
    while server.faults[0].times and time.monotonic() < deadline:
        time.sleep(0.05)
    victim.process.kill()
    victim.process.wait()
    assert client(f"result = total(load({name!r}))")["result"] == pytest.approx(total(model))


def test_the_card_of_a_repository_tells_the_licence(client, offline, server, tmp_path):
    folder = save_folder(EnhancementModel.from_config(TINY), tmp_path / "mine", {"license": "mit"})
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    bare = {name: content for name, content in files.items() if name != "README.md"}
    for name, there in {"owner/card": files, "owner/no-card": bare}.items():
        server.repos[name] = Repo()
        server.repos[name].commit(there)
    for run in (client, offline):
        assert run("result = load('owner/card').license")["result"] == "mit"
        assert run("result = load('owner/no-card').license")["result"] == "unknown"


def test_gguf_repository(client, offline, server, parity):
    q8 = parity("deepvqe_rand_q8.gguf").read_bytes()
    pytest.importorskip("gguf")
    for name, files in {
        "owner/one-gguf": {"README.md": b"", "weights_q8.gguf": q8},
        "owner/two-gguf": {"a.gguf": b"GGUF", "b.gguf": b"GGUF"},
    }.items():
        server.repos[name] = Repo()
        server.repos[name].commit(files)
    code = "result = load('owner/one-gguf', temperature=0.5).network.align.dmax"
    assert client(code)["result"] == 32
    assert offline(code)["result"] == 32
    answer = client("load('owner/two-gguf')")
    assert answer["error"] == "CheckpointError" and "file=" in answer["message"]


def test_push(client, server, tmp_path):
    model = EnhancementModel.from_config(TINY)
    save_folder(model, tmp_path / "mine")
    answer = client(f"EnhancementModel.from_pretrained({str(tmp_path / 'mine')!r}).push_to_hub('me/mine')")
    assert "error" not in answer, answer
    files = server.repos["me/mine"].commits[server.repos["me/mine"].refs["main"]]
    assert {"config.json", "model.safetensors", "hyperparams.yaml", "README.md"} <= set(files)
    assert b'load("me/mine")' in files["README.md"]
    assert client("result = total(load('me/mine'))")["result"] == pytest.approx(total(model))
    with open(tmp_path / "mine" / "README.md", "a") as card:
        card.write('Edited; see deepvqe_hub.load("someone/else") as well.\n')
    (tmp_path / "mine" / "diary.txt").write_text("private")
    code = f"from deepvqe_hub.cli import main; result = main(['push', {str(tmp_path / 'mine')!r}, 'me/other'])"
    assert client(code)["result"] == 0
    files = server.repos["me/other"].commits[server.repos["me/other"].refs["main"]]
    text = files["README.md"].decode()
    assert text.count('"me/other"') == 4 and '("someone/else")' in text and "diary.txt" not in files
    assert client("result = total(load('me/other'))")["result"] == pytest.approx(total(model))
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"broken")
    assert client(code)["result"] == 2


def test_half_precision_is_pushed_as_asked(client, server, tmp_path):
    model = EnhancementModel.from_config(TINY)
    folder = str(save_folder(model, tmp_path / "mine"))
    size = len((tmp_path / "mine" / "model.safetensors").read_bytes())
    load = f"model = EnhancementModel.from_pretrained({folder!r})"
    for repo, push in {
        "me/half": "model.push_to_hub('me/half', half=True)",
        "me/saved": f"model.save_pretrained({folder!r}, half=True, push_to_hub=True, repo_id='me/saved')",
    }.items():
        assert "error" not in (answer := client(f"{load}\n{push}")), answer
        files = server.repos[repo].commits[server.repos[repo].refs["main"]]
        assert len(files["model.safetensors"]) < 0.8 * size
        assert f'load("{repo}")'.encode() in files["README.md"]


def test_an_edited_model_card_on_the_hub_is_kept(client, server, tmp_path):
    push = f"model = EnhancementModel.from_config({TINY!r}); model.push_to_hub('me/card', %s)"
    assert "error" not in client(push % "")
    repo = server.repos["me/card"]

    def card() -> bytes:
        return repo.commits[repo.refs["main"]]["README.md"]

    for options, words in {
        "": b"My own words",
        "delete_patterns='*'": b"My own words",
        "model_card_kwargs={'description': 'Anew.'}": b"Anew.",
    }.items():
        edited = {**repo.commits[repo.refs["main"]], "README.md": b"My own words"}
        before = repo.commit(edited)
        assert "error" not in (answer := client(push % options)), answer
        assert words in card() and repo.refs["main"] != before
    repo.commit(edited)
    run = f"model.save_pretrained({str(tmp_path / 'a')!r}, push_to_hub=True, repo_id='me/card')"
    assert "error" not in client(run) and b"My own words" not in card(), "the folder as it is"
    repo.commit(edited)
    run = f"from deepvqe_hub.cli import main; result = main(['push', {str(tmp_path / 'a')!r}, 'me/card'])"
    assert client(run)["result"] == 0 and b"My own words" not in card()


def test_what_the_mixin_takes_is_taken(client, server, tmp_path):
    push = f"model = EnhancementModel.from_config({TINY!r}); model.push_to_hub('me/some', config=None, %s)"
    assert "error" not in client(push % "allow_patterns=['*.json', '*.safetensors']")
    repo = server.repos["me/some"]

    def names() -> set[str]:
        return set(repo.commits[repo.refs["main"]])

    assert names() == {"config.json", "model.safetensors"}
    assert "error" not in client(push % "ignore_patterns='*.yaml'")
    assert names() == {"config.json", "model.safetensors", "README.md"}
    repo.commit({**repo.commits[repo.refs["main"]], "old.ckpt": b"", ".gitattributes": b"", "kept.txt": b""})
    assert "error" not in client(push % "delete_patterns=['*.ckpt', '.git*', '*.json']")
    files = {"config.json", "model.safetensors", "README.md", "hyperparams.yaml"}
    assert names() == files | {".gitattributes", "kept.txt"}
    answer = client(push % "colour='red'")
    assert answer["error"] == "TypeError" and "push_to_hub() got an unexpected" in answer["message"]
    answer = client(f"model.save_pretrained({str(tmp_path / 'a')!r}, push_to_hub=True, colour='red')")
    assert answer["error"] == "TypeError" and "save_pretrained has no option colour;" in answer["message"]
    assert not (tmp_path / "a").exists()
