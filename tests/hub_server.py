"""A small server that speaks the Hugging Face Hub's protocol, with faults on request.

Repositories live in memory, one dict of files a commit. Enough is there for the Hub's own client to look up, download,
resume, create a repository, and upload by the plain and by the LFS way.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TINY = {
    "network": "DeepVQE",
    "options": {
        "channels": [4, 4, 4],
        "decoder_channels": [4, 4],
        "encoder_residual": [True, False, False],
        "decoder_residual": [False, True, False],
        "hidden": 8,
    },
    "stft": {"win_length": 64, "hop_length": 32},
    "sample_rate": 16000,
    "format_version": 1,
}
"""Config of a model small enough to serve, save and load in no time."""


@dataclass
class Repo:
    """Commits and the names that point to them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        oid = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[ref] = oid
        return oid


@dataclass
class Fault:
    """What goes wrong with requests for a file.

    Args:
        kind: "status" answers `value`; "cut" closes the connection in the middle; "stall" falls silent there;
            "short" sends half and says it is all; "corrupt" changes a byte.
        file: name of the file.
        method: "GET" or "HEAD".
        times: how often, -1 for always.
        value: for "status"; seconds of a "stall".
    """

    kind: str
    file: str
    method: str = "GET"
    times: int = 1
    value: int = 500


class HubServer(ThreadingHTTPServer):
    """Use as a context manager; `url` is what `HF_ENDPOINT` takes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.uploads: dict[str, bytes] = {}  # LFS objects by SHA-256
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range header
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):  # a client that went away is no news
        pass

    def fault(self, method: str, file: str) -> Fault | None:
        for fault in self.faults:
            if fault.file == file and fault.method == method and fault.times:
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._route("HEAD")

    def do_GET(self):
        self._route("GET")

    def do_POST(self):
        self._route("POST")

    def do_PUT(self):
        self._route("PUT")

    def _route(self, method: str) -> None:
        path = unquote(self.path.split("?")[0])
        self.server.requests.append((method, path, self.headers.get("Range", "")))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for verbs, pattern, handle in _ROUTES:
            if method in verbs and (match := re.fullmatch(pattern, path)):
                return handle(self, *match.groups())
        return self._error(404, "RepoNotFound")

    # Reading

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        files, commit = self._find(repo_id, revision)
        if files is None:
            return
        if name not in files:
            return self._error(404, "EntryNotFound", commit)
        data = files[name]
        fault = self.server.fault(self.command, name)
        if fault and fault.kind == "status":
            return self._error(fault.value)
        etag = hashlib.sha256(data).hexdigest()
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        if fault and fault.kind == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault and fault.kind == "short":
            data = data[: len(data) // 2]
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind in ("cut", "stall"):
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.wfile.flush()
            if fault.kind == "stall":
                time.sleep(fault.value)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)
            return
        self.wfile.write(data[start:])

    def _info(self, repo_id: str, revision: str | None = None) -> None:
        files, commit = self._find(repo_id, revision or "main")
        if files is not None:
            self._json({"id": repo_id, "sha": commit, "siblings": [{"rfilename": name} for name in files]})

    def _find(self, repo_id: str, revision: str) -> tuple[dict[str, bytes] | None, str]:
        repo = self.server.repos.get(repo_id)
        if repo is None:
            self._error(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
            return None, ""
        if repo.gated:
            self._error(403, "GatedRepo")
            return None, ""
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            self._error(404, "RevisionNotFound")
            return None, ""
        return repo.commits[commit], commit

    # Writing

    def _create(self) -> None:
        wanted = json.loads(self.body)
        repo_id = f"{wanted['organization'] or 'someone'}/{wanted['name']}"
        status = 409 if repo_id in self.server.repos else 200
        self.server.repos.setdefault(repo_id, Repo()).refs.setdefault("main", Repo().commit({}))
        self.server.repos[repo_id].commits.setdefault(self.server.repos[repo_id].refs["main"], {})
        self._json({"url": f"{self.server.url}/{repo_id}", "id": repo_id}, status)

    def _validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repo_id: str, revision: str) -> None:
        mode = {True: "lfs", False: "regular"}
        files = [file["path"] for file in json.loads(self.body)["files"]]
        self._json(
            {
                "files": [
                    {"path": f, "uploadMode": mode[f.endswith(".safetensors")], "shouldIgnore": False} for f in files
                ]
            }
        )

    def _lfs_batch(self, repo_id: str) -> None:
        objects = json.loads(self.body)["objects"]
        for item in objects:
            item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_put(self, oid: str) -> None:
        self.server.uploads[oid] = self.body
        self._json({})

    def _commit(self, repo_id: str, revision: str) -> None:
        repo = self.server.repos[repo_id]
        files = dict(repo.commits.get(repo.refs.get(revision, ""), {}))
        for line in self.body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                files[item["value"]["path"]] = self.server.uploads[item["value"]["oid"]]
            elif item["key"] == "deletedFile":
                del files[item["value"]["path"]]
        oid = repo.commit(files, revision)
        self._json({"commitUrl": f"{self.server.url}/{repo_id}/commit/{oid}", "commitOid": oid})

    # Answering

    def _json(self, value, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str = "", commit: str = "") -> None:
        self.send_response(status)
        for header, value in (("X-Error-Code", code), ("X-Repo-Commit", commit)):
            if value:
                self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (("GET", "HEAD"), rf"/{_REPO}/resolve/(refs/pr/\d+|[^/]+)/(.+)", _Handler._resolve),
    (("GET",), rf"/api/models/{_REPO}", _Handler._info),
    (("GET",), rf"/api/models/{_REPO}/revision/(.+)", _Handler._info),
    (("POST",), r"/api/repos/create", _Handler._create),
    (("POST",), r"/api/validate-yaml", _Handler._validate),
    (("POST",), rf"/api/models/{_REPO}/preupload/(.+)", _Handler._preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    (("PUT",), r"/lfs/(\w+)", _Handler._lfs_put),
    (("POST",), rf"/api/models/{_REPO}/commit/(.+)", _Handler._commit),
)
