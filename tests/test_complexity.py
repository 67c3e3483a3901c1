"""Parameters and multiply-adds, against figures counted by hand from the layer tables of the papers."""

import pytest

from deepvqe_hub import EnhancementModel
from deepvqe_hub.models import causal, dpcrn, tf_gridnet
from deepvqe_hub.models.complexity import count_model, count_network


@pytest.mark.parametrize(
    ("preset", "parameters", "frames", "macs"),
    [
        ("deepvqe", 7_509_996, 63, 8_011_487_232),
        ("deepvqe-aec", 7_975_063, 1, 152_531_072),
        ("deepvqe-aec-s", 589_103, 1, 10_385_448),
        ("dpcrn", 819_919, 63, 3_068_311_680),
        ("dpcrn-light", 787_151, 63, 1_602_599_040),
        ("tf-gridnet", 1_601_984, 63, 22_223_507_544),
    ],
)
def test_figures(preset, parameters, frames, macs):
    model = EnhancementModel.from_config(preset)
    complexity = count_model(model)
    assert complexity.parameters == parameters
    assert count_network(model.network, frames) == macs
    assert complexity.macs_per_second == (macs / frames * 62.5 if model.network.streams else macs)


def test_leaves_the_model_alone():
    model = EnhancementModel.from_config("deepvqe-s")
    count_model(model)
    assert model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(("preset", "excess"), [("deepvqe", 0.005), ("dpcrn", 0.04), ("tf-gridnet", 0.025)])
def test_ptflops_agrees(preset, excess):
    """ptflops finds slightly more: it counts biases, norms and activations as well."""
    pytest.importorskip("ptflops")
    from functools import partial

    from ptflops import get_model_complexity_info
    from ptflops.pytorch_ops import conv_flops_counter_hook, rnn_flops_counter_hook

    hooks = {  # it knows a layer by its exact class
        causal.CausalConv2d: conv_flops_counter_hook,
        causal.CausalConvTranspose2d: partial(conv_flops_counter_hook, transpose=True),
        causal.CausalGRU: rnn_flops_counter_hook,
        dpcrn.LSTM: rnn_flops_counter_hook,
        dpcrn.CausalLSTM: lambda rnn, x, y: rnn_flops_counter_hook(rnn, (x[0].flatten(0, 1),), y),
    }
    network = EnhancementModel.from_config(preset).eval().network
    unseen = []  # TF-GridNet's layers of kernel 1 are computed by a function, and ptflops counts modules

    def products(block, inputs, _):
        weights = block.intra_linear.weight.numel() + block.inter_linear.weight.numel()
        unseen.append(weights * inputs[0].shape[2:].numel())

    for block in network.modules():
        if isinstance(block, tf_gridnet.GridBlock):
            block.register_forward_hook(products)
    macs, parameters = get_model_complexity_info(
        network,
        (257, 63, 2),
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
        custom_modules_hooks=hooks,
    )
    assert parameters == count_model(EnhancementModel.from_config(preset)).parameters
    assert 1 < (macs + sum(unseen)) / count_network(network, 63) < 1 + excess
