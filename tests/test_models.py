"""What every streaming network promises, and what each option of DeepVQE changes."""

import copy
import re
import threading

import pytest
import torch
from torch.nn.utils import parametrize, prune, spectral_norm, weight_norm

from deepvqe_hub import EnhancementModel
from deepvqe_hub.models import DPCRN, DeepVQE, TFGridNet, all_options
from deepvqe_hub.models.causal import CausalConv2d, CausalNetwork, memory_format_of
from deepvqe_hub.presets import PRESETS

BINS = 33
FRAMES = 625  # 10 s at 62.5 frames a second

# The presets with fewer channels and bins, so that ten seconds frame by frame are quick.
TINY = {"bins": BINS, "channels": [4, 6, 8, 6], "decoder_channels": [6, 8, 4], "hidden": 10}
TINY |= {"encoder_residual": [True, False, True, True], "decoder_residual": [True, True, False, True]}
TINY_DPCRN = {"bins": BINS, "channels": [4, 4, 6, 6], "kernel_bins": [5, 3, 3, 3], "strides": [2, 2, 1, 1]}
FAREND = {"farend_channels": [4, 6], "align_hidden": 4, "dmax": 9}
CONFIGS = {
    "deepvqe": (DeepVQE, {**TINY, "upsampling": "concat", "mask_activation": True}),
    "deepvqe-s": (DeepVQE, {**TINY, "encoder_residual": [False] * 4, "decoder_residual": [False, True, True, False]}),
    "deepvqe-aec": (DeepVQE, {**TINY, **FAREND}),
    "ablated": (DeepVQE, {**TINY, **FAREND, "align": False, "mask": "complex", "upsampling": "transposed"}),
    "dpcrn": (DPCRN, TINY_DPCRN),
    "dpcrn-keras": (DPCRN, {**TINY_DPCRN, "layout": "keras"}),
}


@pytest.fixture(params=CONFIGS)
def network(request, lively):
    cls, options = CONFIGS[request.param]
    return lively(cls(**options))


def spectra(network, batch=1, frames=FRAMES):
    """A microphone spectrum of realistic range, and a far end where the network takes one."""
    shape = (batch, network.bins, frames, 2)
    level = torch.logspace(-3, 1, frames)[torch.randperm(frames)][:, None]
    return torch.randn(shape) * level, torch.randn(shape) if network.farend else None


def pieces(network, spec, far, sizes):
    """Outputs of a spectrum fed in pieces of the given sizes, joined, and the last state."""
    outputs, state, start = [], None, 0
    for size in sizes:
        part = slice(start, start + size)
        out, state = network(spec[:, :, part], None if far is None else far[:, :, part], state)
        outputs.append(out)
        start += size
    assert start == spec.shape[2]
    return torch.cat(outputs, dim=2), state


def split(frames, size):
    """`frames` in pieces of `size`, or of random sizes."""
    if size == "random":
        cuts = torch.randint(1, frames, (20,)).unique().tolist()
        return [b - a for a, b in zip([0, *cuts], [*cuts, frames])]
    return [size] * (frames // size) + [frames % size] * (frames % size > 0)


@torch.inference_mode()
@pytest.mark.parametrize("size", [1, 2, 7, "random"])
def test_streaming_equals_offline(network, error, size):
    spec, far = spectra(network)
    whole, state = network(spec, far)
    joined, last = pieces(network, spec, far, split(FRAMES, size))
    assert whole.shape == spec.shape
    assert error(joined, whole) < 1e-5
    assert all(error(last[name], state[name]) < 1e-4 for name in state)


@torch.inference_mode()
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "tf-gridnet"])
def test_presets_stream(preset, error):
    network = EnhancementModel.from_config(preset).eval().network
    spec, far = spectra(network, frames=20)
    whole, _ = network(spec, far)
    assert error(pieces(network, spec, far, split(20, "random"))[0], whole) < 1e-5
    for frozen in (network.folded(), network.for_inference()):
        assert error(pieces(frozen, spec, far, split(20, 1))[0], whole) < 1e-5


@torch.inference_mode()
def test_future_never_changes_the_past(network):
    spec, far = spectra(network, frames=40)
    now = 23
    before, _ = network(spec, far)
    spec, far = spec.clone(), None if far is None else far.clone()
    for signal in [spec] if far is None else [spec, far]:
        signal[:, :, now] += 1e3
        after, _ = network(spec, far)
        assert torch.equal(after[:, :, :now], before[:, :, :now])
        assert not torch.equal(after[:, :, now], before[:, :, now])


@torch.inference_mode()
def test_folded_is_the_same_function(network, error):
    spec, far = spectra(network, frames=30)
    folded = network.folded()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())  # the original is left as it was
    assert error(folded(spec, far)[0], network(spec, far)[0]) < 1e-5


def test_copies_have_the_same_hooks(network):
    class Keeper:
        def __init__(self):
            self.lock, self.inputs, self.outputs = threading.Lock(), [], []  # a lock cannot be copied

        def before(self, module, inputs):
            self.inputs.append(inputs[0])

        def __call__(self, module, inputs, output):
            self.outputs.append(output)

    class Probe(torch.nn.Module):
        def forward(self, module, inputs, output):
            pass

    keeper, conv = Keeper(), next(module for module in network.modules() if isinstance(module, CausalConv2d))
    conv.register_forward_pre_hook(keeper.before)
    conv.register_forward_hook(keeper)
    network.probe = Probe()  # a hook that is a part of the network
    conv.register_forward_hook(network.probe)
    spec, far = spectra(network, frames=5)
    network.train()(spec, far)
    assert keeper.outputs[0].grad_fn is not None  # nor can this
    for count, copied in enumerate((network.folded(), network.for_inference()), start=2):
        copied(spec, far)
        assert len(keeper.inputs) == len(keeper.outputs) == count
        assert network.probe.training and not copied.probe.training


class LowRank(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        rows, columns = weight.shape
        self.left, self.right = (torch.nn.Parameter(0.1 * torch.randn(shape)) for shape in ((rows, 2), (2, columns)))

    def forward(self, weight):
        return weight + self.left @ self.right


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda network: prune.l1_unstructured(network.enblock2.conv, "weight", 0.3),
        lambda network: [prune.random_unstructured(network.bottle.gru, "weight_hh_l0", 0.3) for _ in range(2)],
        lambda network: weight_norm(network.enblock1.conv),
        lambda network: spectral_norm(network.bottle.fc),
        lambda network: parametrize.register_parametrization(
            network.bottle.gru, "weight_ih_l0", LowRank(network.bottle.gru.weight_ih_l0)
        ),
    ],
)
def test_weights_that_every_call_computes(change, lively, error):
    network = lively(DeepVQE(**TINY))
    change(network)
    spec, _ = spectra(network, frames=10)
    network(spec)
    with torch.no_grad():
        for weight in network.parameters():  # after which what that call computed is old
            weight.mul_(1.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copies = network.folded(), network.for_inference()
    wanted = network(spec)[0]
    assert all(error(copied(spec)[0], wanted) < 1e-5 for copied in copies)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "options", "channels"),
    [
        ("deepvqe-s", {}, 18),
        ("deepvqe-s", {"upsampling": "concat"}, 18),
        ("deepvqe", {}, 27),  # with an activation on the mask, between the convolution and the roots of one
        ("ablated", {}, None),
        ("dpcrn", {}, None),
    ],
)
def test_for_inference_is_the_same_function(name, options, channels, lively, error):
    cls, base = CONFIGS[name]
    network = lively(cls(**base | options))
    spec, far = spectra(network, frames=30)
    fast, wanted = network.for_inference(), network(spec, far)[0]
    if channels:
        assert fast.deblock1.deconv.conv.out_channels == len(fast.deblock1.deconv.conv.weight) == 2 * channels
        assert network.deblock1.deconv.conv.out_channels == 2 * 27  # the original is left as it was
    if name == "deepvqe-s":
        assert memory_format_of(fast.enblock3.conv.weight) == torch.channels_last
    assert error(fast(spec, far)[0], wanted) < 1e-5


class Adapter(torch.nn.Module):
    """Stands in the place of a convolution, as adapters for fine-tuning do."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer, self.gain = base_layer, torch.nn.Parameter(torch.tensor(1.25))

    def forward(self, x, *args, **options):
        return self.base_layer(x, *args, **options) * self.gain


@torch.inference_mode()
def test_adapters_around_convolutions_keep_their_norms(network, error):
    spec, far = spectra(network, frames=30)
    plain, convolutions = network(spec, far)[0], (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, convolutions) and not isinstance(parent, Adapter):
                setattr(parent, name, Adapter(child))
    wanted = network(spec, far)[0]
    assert error(wanted, plain) > 1e-3
    for copied in (network.folded(), network.for_inference()):
        assert error(pieces(copied, spec, far, split(30, 7))[0], wanted) < 1e-5


def test_channels_last_is_the_same_function_and_stays_so(network, error, monkeypatch):
    if not isinstance(network, DeepVQE):
        pytest.skip("of the layers of DeepVQE")
    mic, far = spectra(network, batch=2, frames=20)
    expected, layouts = network(mic, far)[0], []
    convolve = torch.nn.functional.conv2d

    def spied(x, weight, *args):
        layouts.append((tuple(weight.shape[1:]), memory_format_of(x)))
        return convolve(x, weight, *args)

    monkeypatch.setattr(torch.nn.functional, "conv2d", spied)
    assert error(network.to(memory_format=torch.channels_last)(mic, far)[0], expected) < 1e-5
    # Spectra, what follows the GRU and the aligned far end come in another layout; everything else must not.
    wide = [last for (channels, *kernel), last in layouts if kernel == [4, 3] and channels > 2]
    assert wide.count(torch.contiguous_format) <= 1 + network.farend and len(wide) > 8


def test_training_uses_the_statistics_of_the_batch(network):
    spec, far = spectra(network, frames=30)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    evaluated, _ = network(spec, far)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    trained, _ = network.train()(spec, far)
    assert not torch.allclose(trained, evaluated)
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}


def test_norm_in_a_convolution(lively, error):
    conv, norm, x = CausalConv2d(3, 5, 9, stride=2), lively(torch.nn.BatchNorm2d(5)), torch.randn(2, 3, 12, 9)
    state = {".past": torch.randn(2, 3, 3, 9)}
    assert error(conv(x, dict(state), norm), norm(conv(x, dict(state)))) < 1e-6
    norm.train()
    assert error(conv(x, dict(state), norm), norm(conv(x, dict(state)))) < 1e-6


def test_every_weight_learns(network):
    spec, far = spectra(network, frames=30)
    weights = dict(network.named_parameters())
    folded = network.folded().named_parameters()
    # A norm takes away what a bias before it adds, a softmax what all delays share: their gradients are roundings.
    without = {name for name, bias in folded if name.endswith("bias") and not torch.equal(bias, weights[name])}
    without |= {"align.conv.bias"}
    network.train()(spec, far)[0].square().mean().backward()
    assert [name for name, p in weights.items() if p.grad is None or not p.grad.isfinite().all()] == []
    assert {name for name, p in weights.items() if not p.grad.any()} <= without
    assert len(without) < len(weights) / 2


@torch.inference_mode()
def test_state_is_not_changed(network):
    spec, far = spectra(network, frames=10)
    _, state = network(spec, far)
    before = {name: tensor.clone() for name, tensor in state.items()}
    first, _ = network(spec, far, state)
    second, _ = network(spec, far, state)
    assert torch.equal(first, second)
    assert state.keys() == before.keys() == network.initial_state().keys()
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert all(state[name].shape == zeros.shape for name, zeros in network.initial_state(1).items())
    half = copy.deepcopy(network).bfloat16()
    assert {value.dtype for value in half.initial_state().values()} == {torch.bfloat16}


@torch.inference_mode()
def test_two_streams_in_one_batch(network, error):
    spec, far = spectra(network, batch=2, frames=30)
    both, _ = pieces(network, spec, far, split(30, 7))
    for i in range(2):
        alone, _ = pieces(network, spec[i : i + 1], None if far is None else far[i : i + 1], split(30, 7))
        assert error(both[i : i + 1], alone) < 1e-5


@torch.inference_mode()
def test_silence_stays_silent(network):
    spec = torch.zeros(1, BINS, 20, 2)
    assert torch.equal(network(spec, spec if network.farend else None)[0], spec)


def test_double_precision(network):
    spec, far = spectra(network.double(), frames=5)
    assert network(spec.double(), None if far is None else far.double())[0].dtype == torch.float64


def test_layers_without_names_are_told_from_each_other():
    class Nameless(CausalNetwork):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(CausalConv2d(2, 2, BINS) for _ in range(2))

        def enhance(self, spec, farend, state):
            x = spec.permute(0, 3, 2, 1)
            for layer in self.layers:
                x = layer(x, state)
            return x.permute(0, 3, 2, 1)

    network = Nameless()
    with pytest.raises(RuntimeError, match="layers of this Nameless have the same name"):
        network(torch.randn(1, BINS, 5, 2))
    network.name_states()
    assert set(network.initial_state()) == {"layers.0.past", "layers.1.past"}


def test_wrong_far_end():
    spec = torch.randn(1, BINS, 5, 2)
    with pytest.raises(ValueError, match="no far-end input"):
        DeepVQE(**TINY)(spec, spec)
    with pytest.raises(ValueError, match="differ in shape"):
        DeepVQE(**TINY, **FAREND)(spec, spec[:, :, :4])
    with pytest.raises(ValueError, match="no far end"):
        DeepVQE(**TINY).delay(spec, spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_channels": [6, 8]}, "decoder_channels has 2 entries"),
        ({"encoder_residual": [True]}, "encoder_residual has 1"),
        ({"farend_channels": [4]}, "two farend_channels"),
        (
            {"channels": [4, 6], "decoder_channels": [6], "farend_channels": [4, 6]}
            | {"encoder_residual": [True, True], "decoder_residual": [True, True]},
            "at least three encoder blocks",
        ),
        ({"compression": 0}, "compression must lie above 0"),
        ({"compression": 1.5}, "compression must lie above 0"),
        ({"upsampling": "bicubic"}, "bicubic"),
        ({"mask": "binary"}, "binary"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DeepVQE(**TINY | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layout": "jax"}, "jax"), ({"strides": [2]}, "differ in length"), ({"kernel_bins": [5, 4, 3, 3]}, "odd")],
)
def test_wrong_options_of_dpcrn(options, message):
    with pytest.raises(ValueError, match=message):
        DPCRN(**TINY_DPCRN | options)


def test_options_that_are_not_given_have_their_defaults():
    options = all_options(DeepVQE(**TINY), {**TINY, "channels": tuple(TINY["channels"])})
    defaults = {"compression": 0.3, "upsampling": "interleave", "mask": "ccm", "mask_activation": False}
    defaults |= {"farend_channels": None, "align": True, "align_hidden": 32, "dmax": 63}
    assert options == TINY | defaults


TINY_GRID = {"bins": BINS, "channels": 8, "blocks": 2, "hidden": 6, "heads": 2, "attention_channels": 3}


@torch.inference_mode()
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (4, 1), (4, 3)])
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_gridnet_of_any_length(kernel, stride, frames):
    network, spec = TFGridNet(**TINY_GRID, kernel=kernel, stride=stride), torch.randn(2, BINS, frames, 2)
    enhanced, state = network(spec)
    assert enhanced.shape == spec.shape and enhanced.isfinite().all()
    assert state == {}


@torch.inference_mode()
def test_gridnet_keeps_the_level(error):
    network, spec = TFGridNet(**TINY_GRID, normalize=True), torch.randn(2, BINS, 30, 2)
    reference, _ = network(spec)
    for gain in (1e-4, 1e3):
        assert error(network(gain * spec)[0], gain * reference) < 1e-5
    louder = torch.stack([spec[0], 10 * spec[1]])  # each signal of a batch has its own level
    assert error(network(louder)[0][1], 10 * reference[1]) < 1e-5
    assert network(0 * spec)[0].abs().max() < 1e-6


@torch.inference_mode()
def test_gridnet_normalises_to_unit_variance():
    model = EnhancementModel.from_config("tf-gridnet")
    wave = 0.1 * torch.randn(2, 16000)
    level = model.network.level(model.stft.analyse(wave)).flatten()
    assert torch.allclose(level, wave.std(dim=1), rtol=0.03)


def test_gridnet_says_that_it_cannot_stream():
    model = EnhancementModel(network="TFGridNet", options={**TINY_GRID, "bins": 257})
    spec = torch.randn(1, 257, 5, 2)
    _, state = model.network(spec)
    for call in (lambda: model.stream(), lambda: model.network(spec, None, state)):
        with pytest.raises(ValueError, match="whole signal"):
            call()
    with pytest.raises(ValueError, match="no far-end"):
        model.network(spec, spec)


def test_gridnet_enhances_waveforms(error):
    model = EnhancementModel(network="TFGridNet", options={**TINY_GRID, "bins": 257, "normalize": True}).eval()
    wave = torch.rand(3, 2000) * 2 - 1
    with_graph = model(wave)
    assert with_graph.shape == wave.shape
    with torch.no_grad():
        assert error(model(wave), with_graph) < 1e-6
        assert error(model(wave[1]), with_graph[1]) < 1e-5
    with_graph.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    idle = {name for name, p in model.named_parameters() if not p.grad.any()}
    assert {name for name in idle if not re.search(r"attn_conv_K_\d\.2\.beta$", name)} == set()  # the same for all keys


@pytest.mark.parametrize(
    ("options", "message"), [({"heads": 3}, "8 channels .* 3 heads"), ({"kernel": 2, "stride": 3}, "stride 3")]
)
def test_wrong_options_of_gridnet(options, message):
    with pytest.raises(ValueError, match=message):
        TFGridNet(**TINY_GRID | options)
