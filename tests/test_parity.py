"""Agreement with independent public implementations on random weights; most files are not in the repository."""

import numpy as np
import pytest
import torch

from deepvqe_hub import load
from deepvqe_hub.models import DPCRN, DeepVQE, TFGridNet
from deepvqe_hub.stft import STFT


@torch.inference_mode()
def test_reference_implementation(parity, error, seed_weights):
    numbers = np.load(parity("deepvqe_seed.npz"))
    network = DeepVQE(upsampling="concat", mask_activation=True).eval()
    assert len(seed_weights) == 156
    checksum = sum(w.double().sum().item() for w in seed_weights.values())
    assert checksum == pytest.approx(float(numbers["checksum"]), rel=1e-9)
    network.load_state_dict(seed_weights)
    spec = torch.from_numpy(numbers["x"])
    assert error(network(spec)[0], numbers["y"]) < 1e-5
    assert error(network.folded()(spec)[0], numbers["y"]) < 1e-5
    state, frames = None, []
    for frame in spec.split(1, 2):
        out, state = network(frame, None, state)
        frames.append(out)
    assert error(torch.cat(frames, 2), numbers["y"]) < 1e-5


@torch.inference_mode()
def test_dpcrn(parity, error):
    numbers = np.load(parity("dpcrn_trtse_rand_io.npz"))
    network = DPCRN(strides=(2, 2, 2, 1, 1)).eval()
    network.load_state_dict(torch.load(parity("dpcrn_trtse_rand.tar"), weights_only=True)["model"])
    spec = torch.from_numpy(numbers["x"])
    assert error(network(spec)[0], numbers["y"]) < 1e-5
    assert error(network.folded()(spec)[0], numbers["y"]) < 1e-5


@torch.inference_mode()
def test_dpcrn_of_its_authors(parity, error):
    pytest.importorskip("h5py")
    from deepvqe_hub.hub import checkpoint, dpcrn_h5

    numbers = np.load(parity("dpcrn_keras_rand_io.npz"))
    model = checkpoint.build(dpcrn_h5.read(parity("dpcrn_keras_rand.h5")), "the file")
    network, wave = model.network, torch.rand(2, 1001) - 0.5
    assert model(wave).shape == wave.shape
    spec = torch.from_numpy(numbers["x"]).transpose(1, 2)
    mask = network.mask(spec, network.initial_state())
    assert error(mask.transpose(1, 2), numbers["mask"]) < 1e-5


def test_damaged_keras_arrays(parity, tmp_path):
    h5py = pytest.importorskip("h5py")
    from deepvqe_hub.hub import dpcrn_h5

    arrays = dpcrn_h5.read_arrays(parity("dpcrn_keras_rand.h5"))
    name = "model0_conv_1/model0_conv_1/kernel:0"
    damaged = {
        "missing": {key: value for key, value in arrays.items() if key != name},
        "unknown arrays": arrays | {"dense_9/kernel:0": np.zeros((2, 2), np.float32)},
        "dim": arrays | {name: np.zeros(3, np.float32)},
        "no array of weights": arrays | {name: np.array([b"text"])},
    }
    for i, (message, contents) in enumerate(damaged.items()):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            for key, value in contents.items():
                file[key] = value
        with pytest.raises(ValueError, match=message):
            dpcrn_h5.read(tmp_path / f"{i}.h5")
    (tmp_path / "text.h5").write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match="not a readable"):
        dpcrn_h5.read(tmp_path / "text.h5")


@torch.inference_mode()
def test_tf_gridnet(parity, error):
    numbers = np.load(parity("tfgridnet_rand_io.npz"))
    network = TFGridNet().eval()
    network.load_state_dict(torch.load(parity("tfgridnet_rand.tar"), weights_only=True)["model"])
    assert error(network(torch.from_numpy(numbers["x"]))[0], numbers["y"]) < 1e-5


DPCRN_OPTIONS = {"bins": 33, "channels": [4, 4, 6, 6], "kernel_bins": [5, 3, 3, 3], "strides": [2, 2, 1, 1]}
GRID_OPTIONS = {"bins": 33, "channels": 8, "blocks": 2, "hidden": 6, "heads": 2, "attention_channels": 3}


@torch.inference_mode()
@pytest.mark.parametrize(
    ("network", "options", "product", "norm"),
    [
        (DPCRN, DPCRN_OPTIONS, 33.76779236, 45.32065573),
        (DPCRN, {**DPCRN_OPTIONS, "layout": "keras"}, -56.79053668, 133.29616012),
        (TFGridNet, GRID_OPTIONS, -94.23553922, 198.61832505),
        (TFGridNet, {**GRID_OPTIONS, "kernel": 4, "stride": 3, "normalize": True}, -51.56330693, 75.32957935),
    ],
)
def test_numbers_of_the_networks_that_agreed(network, options, product, norm):
    """Where the other implementations' numbers are not at hand: ours, small, from a time when they agreed."""
    network, generator = network(**options).double().eval(), np.random.RandomState(0)  # the one that never changes

    def draw(*shape):
        return torch.from_numpy(np.asarray(generator.standard_normal(shape)))

    for name, value in sorted(network.state_dict().items()):
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.from_numpy(generator.random_sample(value.shape)))
        elif value.is_floating_point():
            value.copy_(0.5 * draw(*value.shape))
    spec, probe = draw(2, 2, 33, 12, 2)
    enhanced, _ = network(spec)
    assert float((enhanced * probe).sum()) == pytest.approx(product, rel=1e-6)
    assert float(enhanced.norm()) == pytest.approx(norm, rel=1e-6)


def keras_arrays():
    """Arrays by the names of the authors' file, in its shapes, with numbers of our own."""
    shapes, kernels = {}, [(5, 2, 32), (3, 32, 32), (3, 32, 32), (3, 32, 64), (3, 64, 128)]

    def layer(name, **arrays):
        shapes.update({f"{name}/{array}:0": shape for array, shape in arrays.items()})

    def norm(name, *shape, names=("gamma", "beta")):
        layer(name, **dict.fromkeys(names, shape))

    def own(name, number=0):
        return f"{name}_{number}/{name}_{number}" if number else f"{name}/{name}"

    statistics = ("gamma", "beta", "moving_mean", "moving_variance")
    for i, (width, inputs, outputs) in enumerate(kernels):
        layer(own("model0_conv", i + 1), kernel=(2, width, inputs, outputs), bias=(outputs,))
        layer(own("model0_dconv", 5 - i), kernel=(2, width, inputs, 2 * outputs), bias=(inputs,))
        norm(own("model0_bn", i + 1), outputs, names=statistics)
        layer(own("p_re_lu", i), alpha=(1, 1, outputs))
        if i:  # the last layer of the decoder gives the mask
            norm(own("model0_dbn", 5 - i), inputs, names=statistics)
            layer(own("p_re_lu", 9 - i), alpha=(1, 1, inputs))
    norm(own("layer_normalization"), 2, 201)
    for b, suffix in enumerate(("", "_1")):
        block = own("dprnn_block", b)
        lstms = [(f"bidirectional{suffix}/{way}_lstm{'_2' * b}", 64) for way in ("forward", "backward")]
        for name, units in [*lstms, (f"lstm_{2 * b + 1}", 128)]:
            arrays = {"kernel": (128, 4 * units), "recurrent_kernel": (units, 4 * units), "bias": (4 * units,)}
            layer(f"{block}/{name}", **arrays)
        for number in (2 * b, 2 * b + 1):
            layer(f"{block}/dense{f'_{number}' * (number > 0)}", kernel=(128, 128), bias=(128,))
            norm(f"{block}/layer_normalization_{number + 1}", 128, 50)
    generator, arrays = torch.Generator().manual_seed(0), {}
    for name, shape in sorted(shapes.items()):
        mean = 1.0 if name.endswith(("gamma:0", "variance:0")) else 0.0
        arrays[name] = (mean + 0.1 * torch.randn(shape, generator=generator)).numpy()
    return arrays


@torch.inference_mode()
def test_keras_arrays_stand_where_they_did_when_the_numbers_agreed(tmp_path):
    """The same for a file of the DPCRN authors: an axis or a layer in another's place gives other numbers."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, array in keras_arrays().items():
            file[name] = array
    model, generator = load(tmp_path / "x.h5"), torch.Generator().manual_seed(1)
    assert model.sample_rate == 16000 and model.stft == STFT(400, 200, window="sine", padding="none")
    network = model.network.double()
    spec, probe = torch.randn(2, 1, 201, 5, 2, generator=generator, dtype=torch.float64)
    mask = network.mask(spec, network.initial_state())
    assert float((mask * probe).sum()) == pytest.approx(-10.3895762503, rel=1e-6)
    assert float(mask.norm()) == pytest.approx(198.475902874, rel=1e-6)
