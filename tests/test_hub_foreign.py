"""Other projects' files: what is read, what is written, what is refused."""

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import TINY
from tiny import same_weights

from deepvqe_hub import EnhancementModel, load
from deepvqe_hub.hub import CheckpointError
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.presets import PRESETS


def streaming_names(weights):
    """The same weights as the reference implementation's streaming network calls them."""
    return {
        re.sub(r"(?<!skip_)conv\.(weight|bias)$", r"conv.Conv2d.\1", name): value for name, value in weights.items()
    }


@pytest.mark.parametrize("naming", [dict, streaming_names])
def test_reference_checkpoint(naming, seed_weights, tmp_path, parity, error):
    weights = naming(seed_weights)
    assert len(weights) == 156 and any("Conv2d" in name for name in weights) == (naming is streaming_names)
    torch.save({"model": weights, "epoch": 3}, tmp_path / "x.tar")
    numbers = np.load(parity("deepvqe_seed.npz"))
    assert abs(sum(float(value.double().sum()) for value in weights.values()) - float(numbers["checksum"])) < 1e-6
    with torch.no_grad():
        enhanced, _ = load(tmp_path / "x.tar").network(torch.from_numpy(numbers["x"]))
    assert error(enhanced, numbers["y"]) < 1e-5


def test_reference_windows(seed_weights, tmp_path):
    torch.save({"model": seed_weights}, tmp_path / "x.tar")
    assert load(tmp_path / "x.tar").stft.window == "sqrt_hann"
    hann = load(tmp_path / "x.tar", window="hann").stft
    assert (hann.window, hann.padding) == ("hann", "reflect")
    with pytest.raises(ValueError, match="temperature"):
        load(tmp_path / "x.tar", temperature=0.1)
    with pytest.raises(CheckpointError, match="bartlett"):
        load(tmp_path / "x.tar", window="bartlett")


def test_reference_checkpoints_are_strict(seed_weights, tmp_path):
    weights = dict(seed_weights)
    weights["bottle.fc.wait"] = weights.pop("bottle.fc.weight")
    torch.save({"model": weights}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match=r"missing: network.bottle.fc.weight; unknown: network.bottle.fc.wait"):
        load(tmp_path / "x.tar")
    torch.save({"model": seed_weights | streaming_names(seed_weights)}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match="both of the plain and of the streaming network"):
        load(tmp_path / "x.tar")
    torch.save({"state": 1}, tmp_path / "y.tar")
    with pytest.raises(CheckpointError, match="state"):
        load(tmp_path / "y.tar")


@pytest.mark.parametrize(("held", "key"), [(lambda state: state, ""), (lambda state: {"model": state}, '["model"]')])
def test_a_state_dict_of_ours_has_no_config(held, key, model, tmp_path):
    torch.save(held(model.state_dict()), tmp_path / "sd.pt")
    with pytest.raises(CheckpointError, match=r"state_dict, which has no config.*save_pretrained") as refused:
        load(tmp_path / "sd.pt")
    remedy = re.search(r"model\.load_state_dict.*?\)(\[.*\])?\)(?=\. )", str(refused.value))[0]
    assert "EnhancementModel.from_config(name)" in str(refused.value) and remedy.endswith(f"weights_only=True){key})")
    other = EnhancementModel.from_config(TINY)
    exec(remedy, {"model": other, "torch": torch})  # does what it says
    assert same_weights(model, other)


def test_gguf(parity, error):
    """Eight-bit weights of the echo-cancelling network; the numbers were made with the weights before rounding."""
    pytest.importorskip("gguf")
    numbers = {name: torch.from_numpy(value) for name, value in np.load(parity("deepvqe_rand_io.npz")).items()}
    model = load(parity("deepvqe_rand_q8.gguf"))
    with torch.no_grad():
        enhanced, _ = model.network(numbers["mic"], numbers["ref"])
        delay = model.network.delay(numbers["mic"], numbers["ref"]).flip(-1)
        cold = load(parity("deepvqe_rand_q8.gguf"), temperature=0.5)
        colder, _ = cold.network(numbers["mic"], numbers["ref"])
    assert error(enhanced, numbers["out"]) < 6e-3
    assert error(delay, numbers["delay"]) < 1e-2  # the softmax magnifies the rounding
    assert error(colder, numbers["out"]) > 1e-3
    torch.testing.assert_close(cold.network.align.conv.weight / 2, model.network.align.conv.weight)


def test_gguf_round_trip_and_unfolded_files(lively, tmp_path, error):
    gguf = pytest.importorskip("gguf")
    from deepvqe_hub.hub.writers import WRITERS

    model = lively(EnhancementModel.from_config("deepvqe-aec-gguf"))
    WRITERS[".gguf"](model, tmp_path / "x.gguf")
    back = load(tmp_path / "x.gguf")
    assert back.config["options"]["dmax"] == 32
    spec = torch.randn(2, 1, 257, 12, 2)
    with torch.no_grad():
        assert error(back.network(*spec)[0], model.network(*spec)[0]) < 1e-5
    reader = gguf.GGUFReader(tmp_path / "x.gguf", "r+")
    root = next(tensor.data for tensor in reader.tensors if tensor.name == "ccm.v_imag")
    for numbers, value, words in (
        (root, root[1] + 0.1, "ccm.v_imag is not the constant"),
        (reader.fields["deepvqe.version"].parts[-1], 2, "version 2"),
        (reader.fields["deepvqe.bn_folded"].parts[-1], False, "statistics"),
    ):
        place = len(numbers) // 2
        before, numbers[place] = numbers[place], value
        reader.data.flush()
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / "x.gguf")
        numbers[place] = before


@pytest.mark.parametrize(
    ("ending", "change", "words"),
    [
        (".tar", {"stft": {"window": "sine"}}, r"window \(sine, not sqrt_hann\)"),
        (".tar", {"stft": {"padding": "none"}}, r"padding \(none, not zeros\)"),
        (".tar", {"stft": {"scale": 2.0}}, "scale"),
        (".tar", {"sample_rate": 48000}, "sample_rate"),
        (".gguf", {"stft": {"window": "hann", "padding": "reflect"}}, r"window \(hann, not sqrt_hann\), padding"),
        (".gguf", {"stft": {"scale": 2.0}}, "scale"),
    ],
)
def test_a_front_end_that_the_format_cannot_say_is_refused(ending, change, words, tmp_path):
    from deepvqe_hub.hub.writers import WRITERS

    preset, options = ("deepvqe", {}) if ending == ".tar" else ("deepvqe-aec", {"upsampling": "concat"})
    config = PRESETS[preset] | {"options": PRESETS[preset]["options"] | options} | change
    with torch.device("meta"):
        model = EnhancementModel.from_config(config)
    with pytest.raises(ValueError, match=words):
        WRITERS[ending](model, tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".tar", ".gguf"])
def test_options_that_the_format_cannot_say_are_refused(ending, tmp_path, monkeypatch):
    """Also those that change no shape, and that nobody has thought of when the writer was written."""
    from deepvqe_hub.hub.writers import WRITERS
    from deepvqe_hub.models import NETWORKS

    class Later(DeepVQE):
        def __init__(self, bins=257, exponent=1.0, **options):
            super().__init__(bins, **options)

    monkeypatch.setitem(NETWORKS, "DeepVQE", Later)
    preset, options = ("deepvqe", {}) if ending == ".tar" else ("deepvqe-aec", {"upsampling": "concat"})
    for change in ({"exponent": 2.0}, {"compression": 0.5}):
        with torch.device("meta"):
            model = EnhancementModel.from_config(
                PRESETS[preset] | {"options": PRESETS[preset]["options"] | options | change}
            )
        with pytest.raises(ValueError, match=f"differs in {next(iter(change))}$"):
            WRITERS[ending](model, tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".tar", ".gguf"])
def test_another_network_is_refused(ending, tmp_path):
    from deepvqe_hub.hub.writers import WRITERS

    with torch.device("meta"):
        model = EnhancementModel.from_config("dpcrn")
    with pytest.raises(ValueError, match="shapes of its weights"):
        WRITERS[ending](model, tmp_path / f"x{ending}")


# Conversion


def test_convert(seed_weights, tmp_path, capsys):
    from deepvqe_hub.cli import main

    torch.save({"model": streaming_names(seed_weights), "epoch": 3}, tmp_path / "x.tar")
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / "ours"), "--window", "hann"]) == 0
    report = capsys.readouterr().out
    assert "--license" in report and "license: unknown" in (tmp_path / "ours" / "README.md").read_text()
    assert "156 tensors mapped, 40 of them renamed" in report and "left out: epoch" in report and "'hann'" in report
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / "ours")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back.tar")]) == 0
    assert same_weights(load(tmp_path / "ours"), load(tmp_path / "back.tar"))
    assert "read it with --window hann --padding reflect" in capsys.readouterr().out
    written = (tmp_path / "back.tar").stat()
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back.tar")]) == 2
    assert "--force" in capsys.readouterr().err and (tmp_path / "back.tar").stat() == written
    for option in (["--half"], ["--name", "x"], ["--license", "mit"]):
        assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "x.tar"), "--force", *option]) == 2
        assert f"{option[0]} is for a checkpoint folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "x.gguf")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    torch.save({"model": {"foreign.key": torch.zeros(1)}}, tmp_path / "z.tar")
    assert main(["convert", str(tmp_path / "z.tar"), str(tmp_path / "z")]) == 2
    assert "foreign.key" in capsys.readouterr().err and not (tmp_path / "z").exists()


@pytest.mark.parametrize("name", ["new/deep/ours", "new/deep/x.tar"])
def test_a_conversion_that_fails_leaves_no_folders(seed_weights, tmp_path, capsys, monkeypatch, name):
    from deepvqe_hub.cli import main

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    torch.save({"model": seed_weights}, tmp_path / "x.tar")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / name)]) == 2
    assert "No space left" in capsys.readouterr().err and os.listdir(tmp_path) == ["x.tar"]
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / name)]) == 0
    assert (tmp_path / name).exists()
