"""Each switch of DeepVQE changes only what it says: with suitable weights, both sides of it are the same function."""

import pytest
import torch

from deepvqe_hub.models import DeepVQE
from deepvqe_hub.models.causal import CausalConvTranspose2d, SubpixelConv2d
from deepvqe_hub.models.deepvqe import compress

OPTIONS = {
    "bins": 33,
    "channels": [4, 6, 8],
    "decoder_channels": [8, 4],
    "encoder_residual": [True] * 3,
    "decoder_residual": [True] * 3,
    "hidden": 8,
    "farend_channels": [4, 6],
    "align_hidden": 4,
    "dmax": 7,
}


@pytest.fixture
def pair(lively):
    """Two networks that differ in some options and share the weights of the same names and shapes.

    Returns both and the names of weights that only one has, or that differ in shape.
    """

    def build(one: dict, other: dict):
        first, second = lively(DeepVQE(**OPTIONS | one)), lively(DeepVQE(**OPTIONS | other))
        ours, theirs = first.state_dict(), second.state_dict()
        shared = {name for name in ours.keys() & theirs.keys() if ours[name].shape == theirs[name].shape}
        second.load_state_dict({name: ours[name] for name in shared}, strict=False)
        return first, second, (ours.keys() | theirs.keys()) - shared

    return build


@pytest.fixture
def spectra():
    return torch.randn(2, 33, 20, 2), torch.randn(2, 33, 20, 2)


@torch.inference_mode()
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_residual_blocks(pair, spectra, error, side):
    """Without a residual block, everything is as with one whose convolution gives zero."""
    off = {f"{side}_residual": [False] * 3}
    network, plain, different = pair({}, off)
    blocks = ("enblock", "farblock") if side == "encoder" else ("deblock",)
    names = {name for name in network.state_dict() if name.startswith(blocks) and ".resblock." in name}
    assert different == names
    assert error(network(*spectra)[0], plain(*spectra)[0]) > 1e-3
    for name in names:
        if name.endswith(("bn.weight", "bn.bias")):
            network.get_parameter(name).zero_()
    assert error(network(*spectra)[0], plain(*spectra)[0]) < 1e-5


@torch.inference_mode()
def test_sub_pixel_or_transposed_convolution(pair, spectra, error):
    """A transposed convolution of stride two is an interleaving sub-pixel convolution half of whose taps are zero."""
    network, transposed, different = pair({"upsampling": "interleave"}, {"upsampling": "transposed"})
    assert {name.split(".")[1] for name in different} == {"deconv"}
    for i in (1, 2, 3):
        source = transposed.get_submodule(f"deblock{i}.deconv")
        target = network.get_submodule(f"deblock{i}.deconv.conv")
        assert target.weight.numel() == 2 * source.weight.numel()
        even, odd = target.weight.zero_().unflatten(0, (2, -1))
        taps = source.weight.transpose(0, 1).flip(2)  # past frames first
        even[..., 1] = taps[..., 1]
        odd[..., 1], odd[..., 2] = taps[..., 2], taps[..., 0]
        target.bias.copy_(source.bias.repeat(2))
    assert error(transposed(*spectra)[0], network(*spectra)[0]) < 1e-5


def test_names_of_parts_are_checked():
    for option in ("upsampling", "mask"):
        with pytest.raises(ValueError, match=f"{option} must be one of .*, not 'other'"):
            DeepVQE(**{option: "other"})


@torch.inference_mode()
def test_order_of_sub_pixels(pair, spectra, error):
    """The orders differ in where the channels of a convolution go, and in nothing else."""
    network, concat, different = pair({"upsampling": "interleave"}, {"upsampling": "concat"})
    assert different == set()
    assert error(concat(*spectra)[0], network(*spectra)[0]) > 1e-3
    x, state = torch.randn(1, 3, 5, 4), {"conv.past": torch.zeros(1, 3, 3, 4)}
    one, other = SubpixelConv2d(3, 2, 4, 8, "interleave"), SubpixelConv2d(3, 2, 4, 8, "concat")
    one.conv.key = other.conv.key = "conv"
    other.load_state_dict(one.state_dict())
    interleaved, joined = one(x, dict(state)), other(x, dict(state))
    assert torch.equal(torch.cat([interleaved[..., 0::2], interleaved[..., 1::2]], -1), joined)


@torch.inference_mode()
@pytest.mark.parametrize("exponent", [0.3, 1.0])
def test_compression(spectra, error, exponent):
    spec = torch.view_as_complex(spectra[0])
    expected = torch.view_as_real(torch.polar(spec.abs() ** exponent, spec.angle())).permute(0, 3, 2, 1)
    assert error(compress(spectra[0], DeepVQE(**OPTIONS, compression=exponent).compression), expected) < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["sub-pixel", "transposed"])
def test_receptive_field_of_upsampling(kind):
    layer = SubpixelConv2d(1, 1, 5, 9) if kind == "sub-pixel" else CausalConvTranspose2d(1, 1, 9)
    conv = getattr(layer, "conv", layer)
    conv.bias.zero_()
    state = {f".{name}": torch.zeros(1, *shape) for name, shape in conv.state_shapes().items()}
    x = torch.zeros(1, 1, 12, 5)
    x[:, :, 4, 2] = 1
    y = layer(x, state)
    assert y.shape == (1, 1, 12, 9)
    assert y[0, 0].abs().sum(1).nonzero().flatten().tolist() == [4, 5, 6, 7]
    assert y[0, 0].abs().sum(0).nonzero().flatten().tolist() == (
        [2, 3, 4, 5, 6, 7] if kind == "sub-pixel" else [3, 4, 5]
    )


@torch.inference_mode()
@pytest.mark.parametrize("upsampling", ["interleave", "transposed"])
def test_convolving_or_plain_mask(pair, spectra, error, upsampling):
    """A plain complex mask is a convolving one that has weight on the present bin only."""
    network, plain, different = pair({"upsampling": upsampling}, {"upsampling": upsampling, "mask": "complex"})
    assert {name.rsplit(".", 1)[0] for name in different} == {
        "deblock1.deconv.conv" if upsampling == "interleave" else "deblock1.deconv"
    }
    source, target = plain.deblock1.upsampling_conv, network.deblock1.upsampling_conv
    for name, channels_at in (("weight", int(target.transposed)), ("bias", 0)):
        # (re, im) along the cube roots of one: re on the first, im / sqrt(3) on the second minus the third.
        real, imag = source.get_parameter(name).movedim(channels_at, 0).unflatten(0, (-1, 2)).unbind(1)
        parts = target.get_parameter(name).zero_().movedim(channels_at, 0).unflatten(0, (-1, 3, 9))
        parts[:, 0, 7], parts[:, 1, 7], parts[:, 2, 7] = real, imag / 3**0.5, -imag / 3**0.5
    assert error(plain(*spectra)[0], network(*spectra)[0]) < 1e-5


@torch.inference_mode()
def test_alignment(pair, spectra, error):
    """Without alignment, everything is as with one that knows no delay but zero."""
    network, plain, different = pair({"dmax": 1}, {"align": False})
    assert different == {name for name in network.state_dict() if name.startswith("align.")}
    assert error(plain(*spectra)[0], network(*spectra)[0]) < 1e-6
    assert plain.initial_state().keys() == {n for n in network.initial_state() if not n.startswith("align.")}
    wide, plain, _ = pair({}, {"align": False})
    assert error(plain(*spectra)[0], wide(*spectra)[0]) > 1e-3
    with pytest.raises(ValueError, match="without alignment"):
        plain.delay(*spectra)


@torch.inference_mode()
@pytest.mark.parametrize("upsampling", ["interleave", "concat", "transposed"])
@pytest.mark.parametrize("mask", ["ccm", "complex"])
def test_untrained_network_is_nearly_transparent(mask, upsampling, error, spectra):
    network = DeepVQE(**OPTIONS | {"mask": mask, "upsampling": upsampling}).eval()
    network.deblock1.upsampling_conv.weight.zero_()
    assert error(network(*spectra)[0], spectra[0]) < 1e-6
