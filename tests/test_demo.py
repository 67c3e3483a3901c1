"""The demo: its work, its page as a program calls it, and its page in a real browser."""

import ast
import importlib.util
import io
import re
import shutil
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile

pytest.importorskip("matplotlib")

from tiny import FAREND, OPTIONS

import deepvqe_hub
from deepvqe_hub import EnhancementModel
from deepvqe_hub.cli import main
from deepvqe_hub.demo import Studio
from deepvqe_hub.hub import save_folder

ROOT = Path(__file__).resolve().parents[1]
SPACE = ROOT / "examples" / "space"
CONFIG = {"network": "DeepVQE", "options": {**OPTIONS, **FAREND, "dmax": 8}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Recordings at 44.1 kHz, and a folder with an echo-cancelling model."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    for name, seconds, channels in (("noisy", 1.5, 2), ("far", 1, 1), ("long", 4, 1)):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal((int(seconds * 44100), channels)), 44100)
    (folder / "text.wav").write_text("no audio")
    save_folder(EnhancementModel.from_config(CONFIG), folder / "echo")
    return folder


@pytest.fixture(scope="module")
def studio(files):
    return Studio(["deepvqe-s", str(files / "echo")], max_seconds=3, scores=False)


def test_enhance(files):
    take = Studio(["deepvqe-s"]).enhance(files / "noisy.wav")
    model = deepvqe_hub.load("deepvqe-s")
    noisy, rate = soundfile.read(files / "noisy.wav", dtype="int16")
    assert take.sample_rate == rate and take.audio.dtype == np.int16
    expected = deepvqe_hub.enhance(model, noisy, rate)
    assert np.abs(take.audio.astype(int) - expected).max() <= 1
    assert take.picture.ndim == 3 and take.picture.dtype == np.uint8 and take.picture.std() > 10
    assert "1.5 s of audio" in take.report and "DNSMOS" in take.report
    if importlib.util.find_spec("speechmos") and importlib.util.find_spec("onnxruntime"):
        assert re.search(r"\| after \| \d\.\d\d \|", take.report)


def test_floating_point_files(studio, files, tmp_path):
    noisy, rate = soundfile.read(files / "noisy.wav")
    soundfile.write(tmp_path / "float.wav", noisy, rate, subtype="FLOAT")
    expected = studio.enhance(files / "noisy.wav").audio
    assert np.abs(studio.enhance(tmp_path / "float.wav").audio.astype(int) - expected).max() <= 2
    assert np.abs(expected).max() > 100


def test_mix_and_attenuation(studio, files):
    noisy, _ = soundfile.read(files / "noisy.wav", dtype="int16", always_2d=True)
    for settings in ({"mix": 0}, {"attenuation_limit_db": 0}):
        assert np.abs(studio.enhance(files / "noisy.wav", **settings).audio.astype(int) - noisy).max() <= 1


def test_far_end(studio, files):
    echo = str(files / "echo")
    take = studio.enhance(files / "noisy.wav", files / "far.wav", echo)
    assert "far.wav is 0.500 s shorter" in take.report and str(files) not in take.report.replace(echo, "")
    assert take.picture.shape[0] > studio.enhance(files / "noisy.wav").picture.shape[0]  # far end and delay as well
    assert "no echo is removed" in studio.enhance(files / "noisy.wav", None, echo).report


def test_far_end_of_an_exported_graph(files):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    graph = str(deepvqe_hub.onnx.export(deepvqe_hub.load(files / "echo"), files / "echo.onnx"))
    take = Studio([graph], scores=False).enhance(files / "noisy.wav", files / "far.wav")
    assert take.picture.std() > 10  # without the delay, which a graph does not tell


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None,), "upload a sound file"),
        (("long.wav",), "long.wav is 4 s long; this demo takes up to 3 s.*deepvqe enhance"),
        (("text.wav",), "text.wav: not an audio file"),
        (("nowhere.wav",), "nowhere.wav"),
        (("noisy.wav", "far.wav", "deepvqe-s"), "choose an echo-cancelling model"),
        (("noisy.wav", "text.wav", "echo"), "text.wav"),
        (("noisy.wav", None, "../other"), "this demo has deepvqe-s"),
        (("noisy.wav", None, "deepvqe-s", 2), "mix must lie"),
    ],
)
def test_wrong_requests_are_explained(studio, files, arguments, words):
    paths = [value and files / value for value in arguments[:2]]
    rest = [str(files / value) if value == "echo" else value for value in arguments[2:]]
    with pytest.raises(ValueError, match=words) as caught:
        studio.enhance(*paths, *rest)
    assert str(files) not in str(caught.value).replace(str(files / "echo"), "")  # folders of uploads are not shown


def test_studio_offers_what_there_is(monkeypatch):
    names = [row.name for row in deepvqe_hub.list_models() if row.available]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert Studio().models == names
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else name)
    assert Studio().models == [name for name in names if "gguf" not in name] != names
    with pytest.raises(ValueError, match="max_seconds"):
        Studio(max_seconds=0)
    with pytest.raises(ValueError, match=r"\['deepvqe-s'\], not one name"):
        Studio("deepvqe-s")


def test_command_line(files, monkeypatch, capsys):
    assert main(["demo", "--model", str(files / "text.wav")]) == 2
    gradio = pytest.importorskip("gradio")
    calls = []
    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **options: calls.append(options))
    assert main(["demo", "--model", str(files / "echo"), "--port", "8123", "--max-seconds", "5"]) == 0
    assert (calls[0]["server_name"], calls[0]["server_port"], calls[0]["share"]) == ("127.0.0.1", 8123, False)
    assert calls[0]["max_file_size"] == "100mb"
    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **options: (_ for _ in ()).throw(OSError("no free port")))
    assert main(["demo", "--model", str(files / "echo")]) == 2
    assert "no free port" in capsys.readouterr().err


def test_the_command_says_where_the_page_is_and_not_how_to_share_it(files, monkeypatch, capsys):
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr(gradio.Blocks, "block_thread", lambda page: page.close())  # as if stopped at once
    assert main(["demo", "--model", str(files / "echo")]) == 0
    said = "".join(capsys.readouterr())
    assert re.search(r"^deepvqe: the demo is at http://127\.0\.0\.1:\d+/; Ctrl", said, re.M) and "public" not in said


def test_space():
    """The Space's metadata names its app, and the app builds the same page."""
    head = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    metadata = dict(re.findall(r"^(\w+): (.+)$", head, re.M))
    assert metadata["sdk"] == "gradio" and metadata["license"] == "apache-2.0"
    assert (SPACE / metadata["app_file"]).is_file()
    assert len(metadata["title"]) and len(metadata["short_description"]) <= 60
    names = {node.module for node in ast.walk(ast.parse((SPACE / "app.py").read_text())) if hasattr(node, "module")}
    assert "deepvqe_hub.demo" in names
    assert "deepvqe-hub[demo" in (SPACE / "requirements.txt").read_text()


def test_what_launch_sets_can_be_set_otherwise(studio, monkeypatch):
    gradio, calls = pytest.importorskip("gradio"), []
    from deepvqe_hub.demo import launch

    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **options: calls.append(options))
    assert isinstance(launch(studio, max_file_size="1mb"), gradio.Blocks)
    assert calls[0]["max_file_size"] == "1mb" and calls[0]["ssr_mode"] is False


@pytest.fixture
def server(studio, files):
    pytest.importorskip("gradio")
    from deepvqe_hub.demo import launch

    page = launch(studio, [files / "noisy.wav"], prevent_thread_lock=True, quiet=True)
    yield page.local_url
    page.close()


def test_page_as_a_program_calls_it(server, files):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(server, verbose=False)
    noisy = handle_file(files / "noisy.wav")
    audio, picture, report = client.predict(noisy, None, "deepvqe-s", 1.0, 60, api_name="/enhance")
    assert soundfile.info(audio).frames == 66150 and Path(picture).stat().st_size and "1.5 s" in report
    with pytest.raises(AppError, match="this demo takes up to 3 s"):
        client.predict(handle_file(files / "long.wav"), None, "deepvqe-s", 1.0, 60, api_name="/enhance")


@pytest.mark.slow
def test_page_in_a_browser(server, files):
    """A file goes in, the enhanced audio plays; a screenshot stays in results/demo.png."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in ("headless=new", "no-sandbox", "mute-audio", "window-size=1300,1250", "disable-dev-shm-usage"):
        options.add_argument(f"--{switch}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        look_and_listen(browser, server, files)
    finally:
        browser.quit()


def look_and_listen(browser, server, files):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(what, seconds=90):
        return WebDriverWait(browser, seconds, ignored_exceptions=(Exception,)).until(what)

    def find(selector):
        return browser.find_element(By.CSS_SELECTOR, selector)

    browser.get(server)
    wait(lambda _: find("#before input[type=file]")).send_keys(str(files / "noisy.wav"))
    wait(lambda _: find("#before a[download]").get_property("href").endswith("noisy.wav"))
    find("#enhance").click()
    wait(lambda _: "real-time factor" in find("#report").text)
    wait(lambda _: find("#spectrograms img").get_property("naturalWidth") > 100)
    with urlopen(wait(lambda _: find("#after a[download]").get_property("href"))) as response:
        enhanced, rate = soundfile.read(io.BytesIO(response.read()), dtype="int16")
    noisy, _ = soundfile.read(files / "noisy.wav", dtype="int16")
    assert (
        rate == 44100 and np.abs(enhanced - deepvqe_hub.enhance(deepvqe_hub.load("deepvqe-s"), noisy, rate)).max() <= 1
    )
    find("#after button[aria-label=Play]").click()
    wait(lambda _: find("#after #time").text == "0:01")  # the player has come that far
    (ROOT / "results").mkdir(exist_ok=True)
    assert browser.save_screenshot(str(ROOT / "results" / "demo.png"))
