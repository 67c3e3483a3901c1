"""Every code block of the documentation runs.

Python blocks of a page share one namespace; `sh` blocks go through the command line's entry. A block is left out only
if a comment before it says why: `<!-- not run: reason -->`. Recordings and a small corpus lie in the folder where a
page runs; weights that are not in the package are stood in for by random ones.
"""

import contextlib
import importlib
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import FAREND, OPTIONS

import deepvqe_hub
from deepvqe_hub import EnhancementModel, metrics, models
from deepvqe_hub.cli import main
from deepvqe_hub.hub import registry, save_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
REASONS = ("network", "needs ", "starts a server", "measures", "trains", "the path is the reader's")
# Packages of extras that pages use; without them the page is skipped.
EXTRAS = {
    "tutorials/speechbrain.md": ["speechbrain"],
    "tutorials/torchaudio.md": ["torchaudio"],
    "tutorials/deploy.md": ["onnx", "onnxruntime"],
    "tutorials/demo.md": ["matplotlib", "gradio"],
    "tutorials/enhance.md": ["matplotlib"],
    "tutorials/echo.md": ["matplotlib", "speechmos", "onnxruntime"],
    "README.md": ["speechbrain"],
}
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


def name_of(page):
    return page.relative_to(ROOT / "docs" if "docs" in page.parts else ROOT).as_posix()


def blocks(page):
    """Line number, language, code and reason of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield line, match["language"], match["code"], match["reason"]


def run_python(page, line, code, namespace):
    # Blank lines in front, so that tracebacks show the line of the page.
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def run_shell(page, line, code):
    for command in code.splitlines():
        words = shlex.split(command, comments=True)
        if words:
            assert words[0] == "deepvqe", f"{page}:{line}: {command} needs a reason not to be run"
            try:
                status = main(words[1:])
            except SystemExit as done:  # of argparse, after --help and --version
                status = done.code
            assert status == 0, f"{page}:{line}: {command} gave {status}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a page runs: the recordings it names, 2 s long, and a little corpus."""
    monkeypatch.chdir(tmp_path)

    def example(name):
        return soundfile.read(ROOT / "examples" / name, frames=32000)[0]

    noisy, mic, far = map(example, ("noisy.wav", "echo_mic.flac", "echo_farend.flac"))
    files = {"noisy": noisy, "mic": mic, "loudspeaker": far, "recordings/a": noisy, "recordings/b": noisy[:8000]}
    files |= {"clean/a": noisy, "clean/b": noisy[:8000], "calls/1_mic": mic, "calls/1_farend": far}
    rng = np.random.default_rng(0)
    for number in range(2):
        files[f"corpus/clean/{number}"] = 0.1 * np.sin(np.arange(20000) / (5 + number))
        files[f"corpus/noise/{number}"] = 0.05 * rng.standard_normal(20000)
    for name, wave in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(f"{name}.wav", wave, 16000)
    Path("text.wav").write_text("no audio")
    return tmp_path


@pytest.fixture
def stand_ins(tmp_path_factory, monkeypatch):
    """Weights in place of those that a page would fetch from elsewhere, and this repository in place of GitHub's."""
    from deepvqe_hub.hub import load

    def tiny(farend):
        return EnhancementModel.from_config({"options": OPTIONS | (FAREND if farend else {})}).eval()

    def loading(name_or_path, *, revision=None, device=None, **options):
        entry = registry.ENTRIES.get(str(name_or_path))
        elsewhere = str(name_or_path).startswith("some-user/") or Path(name_or_path).suffix in (".tar", ".gguf")
        if elsewhere or name_or_path == "path/to/checkpoint" or (entry and not entry.embedded):
            return tiny("aec" in str(name_or_path))
        return load(name_or_path, revision=revision, device=device, **options)

    monkeypatch.setitem(deepvqe_hub.__dict__, "load", loading)
    monkeypatch.setattr("deepvqe_hub.hub.load", loading)
    hub = torch.hub

    def local(function):
        def call(repository, *arguments, trust_repo=None, **options):
            assert repository == "OWNER/deepvqe-hub" and trust_repo is True
            return function(repository, *arguments, **options)

        return call

    def hub_help(repository, entry):
        return hub._import_module("hubconf", str(ROOT / "hubconf.py")).__dict__[entry].__doc__

    load_local = hub.load
    monkeypatch.setattr(hub, "load", local(lambda _, *args, **kw: load_local(str(ROOT), *args, source="local", **kw)))
    monkeypatch.setattr(hub, "help", local(hub_help))
    with contextlib.suppress(ImportError):
        from deepvqe_hub import Enhancer

        checkpoint = save_folder(tiny(False), tmp_path_factory.mktemp("hub") / "checkpoint")
        from_hparams = Enhancer.from_hparams

        def from_stand_in(source, *arguments, **options):
            return from_hparams(str(checkpoint) if source.startswith("some-user/") else source, *arguments, **options)

        monkeypatch.setattr(Enhancer, "from_hparams", from_stand_in)


@pytest.fixture
def own_entries():
    """A page may add networks and measures; they are gone afterwards."""
    tables = models.NETWORKS, metrics.METRICS
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before):
        table.clear()
        table.update(entries)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page(page, folder, stand_ins, own_entries):
    for package in EXTRAS.get(name_of(page), ()):
        pytest.importorskip(package)
    namespace = {"__name__": "page"}
    for line, language, code, reason in blocks(page):
        if reason is not None:
            assert reason.startswith(REASONS), f"{page}:{line}: unknown reason {reason!r}"
        elif language == "python":
            run_python(page, line, code, namespace)
        elif language == "sh":
            run_shell(page, line, code)
        else:
            assert language == "text", f"{page}:{line}: a block is python, sh or text, not {language!r}"


def test_readme(folder, stand_ins):
    """Its Python blocks, with the signals that they take for granted."""
    for package in EXTRAS["README.md"]:
        pytest.importorskip(package)
    Path("examples").symlink_to(ROOT / "examples")
    chunk = soundfile.read("noisy.wav", dtype="float32", frames=1000)[0]
    namespace = {"chunk": chunk, "wavs": torch.from_numpy(chunk)[None], "lengths": torch.ones(1)}
    found = [block for block in blocks(README) if block[1] == "python"]
    assert found
    for line, _, code, _ in found:
        run_python(README, line, code, namespace)


def test_pages_stand_in_the_table_of_contents():
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(name_of(page) in contents for page in PAGES)


def test_links_lead_somewhere():
    """Links between pages, to pictures and to headings."""
    others = [page for folder in ("recipes", "benchmarks") for page in (ROOT / folder).rglob("*.md")]
    for page in [*PAGES, README, *others]:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", prose):
            found = page.parent / target if target else page
            assert found.exists(), f"{page}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", found.read_text(encoding="utf-8")), re.M)
                slugs = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
                assert heading in slugs, f"{page}: {target}#{heading}"


def test_nothing_is_promised_that_is_not_there():
    """Sub-commands and options that pages show exist, also where a block is not run."""
    from deepvqe_hub.cli import build_parser

    parser, commands = build_parser(), []
    for page in [*PAGES, README]:
        for line, language, code, _ in blocks(page):
            for command in code.splitlines() if language in ("sh", "") else ():
                words = shlex.split(
                    command.partition("deepvqe ")[2].partition("|")[0].partition(" < ")[0], comments=True
                )
                if words and "deepvqe-" not in command.partition("deepvqe ")[0]:
                    words = words[: words.index(">")] if ">" in words else words
                    try:
                        parser.parse_args(words)
                    except SystemExit as done:  # --help and --version end well
                        assert done.code == 0, f"{page}:{line}: {command}"
                    commands.append(words[0])
    assert len(commands) > 30 and {"enhance", "evaluate", "export", "stream", "--help"} <= set(commands)


def test_site_builds(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "site/reference/models/index.html").read_text(encoding="utf-8")
    assert "delay_distribution" in text and "algorithmic latency" in text.lower()


def test_the_reference_shows_where_names_are_imported_from():
    """The heading of an entry is its path, so that of a package's name is the package's."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    for path in re.findall(r"^::: (\S+)$", pages, re.M):
        module, _, name = path.rpartition(".")
        while "." in module:
            module = module.rpartition(".")[0]
            with contextlib.suppress(ImportError):  # of extras
                package = importlib.import_module(module)
                assert name not in getattr(package, "__all__", ()), f"{path} can be imported from {module}"


PUBLIC = ["", ".data", ".demo", ".files", ".hub", ".metrics", ".models", ".onnx", ".training"]


@pytest.mark.parametrize("package", [f"deepvqe_hub{part}" for part in PUBLIC])
def test_the_reference_has_every_public_name(package):
    for part, needed in (("training", "speechbrain"), ("demo", "gradio")):
        if package.endswith(part):
            pytest.importorskip(needed)
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)$", pages, re.M))
    module = importlib.import_module(package)
    there = []
    for path in listed:
        with contextlib.suppress(ImportError):  # of extras
            there.append(pkgutil.resolve_name(path))
    names = dir(module) if package == "deepvqe_hub" else module.__all__  # those of extras that are there, too
    for name in set(names) - {"__version__"}:
        thing = getattr(module, name)
        if inspect.ismodule(thing):
            continue
        assert any(thing is other for other in there), f"{package}.{name} is in no page"
