"""Entry points of torch.hub: speech enhancement models, waveform in, waveform out.

>>> model = torch.hub.load("OWNER/deepvqe-hub", "deepvqe_s", trust_repo=True)
>>> clean = model(noisy)  # (..., time) at model.sample_rate

`progress=False`, which other projects' entry points take, changes nothing: weights in the package need no download, and
the client of the Hugging Face Hub has HF_HUB_DISABLE_PROGRESS_BARS.
"""

# What loading a model needs, and no more: torch.hub refuses to start where one of these is missing.
dependencies = ["torch", "numpy", "safetensors", "huggingface_hub"]


def _model(name, pretrained, checkpoint, device, options):
    # Imports stand inside, so that a missing package is reported by torch.hub's own check of dependencies.
    from deepvqe_hub import EnhancementModel, load
    from deepvqe_hub.hub import WeightsMissingError, registry
    from deepvqe_hub.hub.loading import on_device

    device = _usual(device, options)
    if checkpoint is not None:
        model = load(checkpoint, device=device, **options)
        network, farend = model.config.get("network"), model.farend
        fitting = registry.HUB_ENTRIES.get((network, farend), ())
        if name.replace("-", "_") not in fitting:
            remedy = " or ".join(fitting) or "deepvqe_hub.load"
            raise ValueError(f"{checkpoint} is a {network} with {'a' if farend else 'no'} far end; load it by {remedy}")
        return model
    if pretrained not in (True, False):  # a file in its place would be passed over in silence
        raise ValueError(f"pretrained must be True or False, not {pretrained!r}; give other weights as checkpoint=")
    if pretrained:
        try:
            return load(name, device=device, **options)
        except WeightsMissingError as error:
            raise WeightsMissingError(f"{error}. With torch.hub: pretrained=False, or checkpoint=") from error
    if options:
        raise ValueError(f"random weights take no options, got {', '.join(options)}")
    return on_device(EnhancementModel.from_config(name), device, name)


def _usual(device, options):
    """The device, taking out of `options` what entry points of other projects have for it and for their downloads."""
    options.pop("progress", None)
    where = options.pop("map_location", None)
    return where if device is None else device


def deepvqe_s(pretrained=True, checkpoint=None, device=None, **options):
    """Small DeepVQE: noise suppression and dereverberation, 0.57 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): trained weights, in evaluation mode; False gives random ones, ready to train.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: (..., time) to (..., time), float within ±1 at
        `model.sample_rate`; `model.stream()` for live audio.

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "deepvqe_s", trust_repo=True)
        >>> clean = model(torch.randn(1, 16000))

    Paper: DeepVQE, Indenbom et al., Interspeech 2023, https://arxiv.org/abs/2306.03177. Licence: Apache-2.0.
    """
    return _model("deepvqe-s", pretrained, checkpoint, device, options)


def deepvqe(pretrained=True, checkpoint=None, device=None, **options):
    """DeepVQE: noise suppression and dereverberation, 7.5 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): trained weights, in evaluation mode and with the paper's order of sub-pixel channels; False
            gives random ones, ready to train, with that of the reference implementation.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file, such as
            `deepvqe_trained_on_DNS3.tar` of github.com/Xiaobin-Rong/deepvqe.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository or `window` for a `.tar`.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: (..., time) to (..., time), float within ±1 at
        `model.sample_rate`; `model.stream()` for live audio.

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "deepvqe", trust_repo=True)
        >>> clean = model(torch.randn(1, 16000))

    Paper: DeepVQE, Indenbom et al., Interspeech 2023, https://arxiv.org/abs/2306.03177. Licence: Apache-2.0.
    """
    return _model("deepvqe", pretrained, checkpoint, device, options)


def deepvqe_aec_s(pretrained=True, checkpoint=None, device=None, **options):
    """Small DeepVQE with a far end: cancels echo, noise and reverberation at once, 0.59 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): trained weights, in evaluation mode; False gives random ones, ready to train.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: microphone and loudspeaker signal of one shape (..., time) to
        the near-end talker, (..., time).

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "deepvqe_aec_s", trust_repo=True)
        >>> clean = model(mic, farend=loudspeaker)

    Paper: DeepVQE, Indenbom et al., Interspeech 2023, https://arxiv.org/abs/2306.03177. Licence: Apache-2.0.
    """
    return _model("deepvqe-aec-s", pretrained, checkpoint, device, options)


def deepvqe_aec(pretrained=True, checkpoint=None, device=None, **options):
    """DeepVQE with a far end: cancels echo, noise and reverberation at once, 8.0 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): trained weights, in evaluation mode; False gives random ones, ready to train.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file, such as
            `deepvqe.gguf` of github.com/richiejp/deepvqe-ggml ("richiejp/deepvqe-aec-gguf" on the Hub).
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for the Hub or `temperature` for a `.gguf`.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: microphone and loudspeaker signal of one shape (..., time) to
        the near-end talker, (..., time).

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "deepvqe_aec", trust_repo=True)
        >>> clean = model(mic, farend=loudspeaker)

    Paper: DeepVQE, Indenbom et al., Interspeech 2023, https://arxiv.org/abs/2306.03177. Licence: Apache-2.0.
    """
    return _model("deepvqe-aec", pretrained, checkpoint, device, options)


def dpcrn(pretrained=True, checkpoint=None, device=None, **options):
    """DPCRN: noise suppression with a dual-path convolutional recurrent network, 0.8 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): no weights ship with this release, so give False, for random ones ready to train, or
            `checkpoint`.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: (..., time) to (..., time), float within ±1 at
        `model.sample_rate`.

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "dpcrn", pretrained=False, trust_repo=True)

    Paper: DPCRN, Le et al., Interspeech 2021, https://arxiv.org/abs/2107.05429. Licence: Apache-2.0.
    """
    return _model("dpcrn", pretrained, checkpoint, device, options)


def dpcrn_light(pretrained=True, checkpoint=None, device=None, **options):
    """DPCRN with half the bins between encoder and decoder: noise suppression, 0.8 M parameters, 16 kHz, streams.

    Args:
        pretrained (bool): no weights ship with this release, so give False, for random ones ready to train, or
            `checkpoint`.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: (..., time) to (..., time), float within ±1 at
        `model.sample_rate`.

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "dpcrn_light", pretrained=False, trust_repo=True)

    Paper: DPCRN, Le et al., Interspeech 2021, https://arxiv.org/abs/2107.05429. Licence: Apache-2.0.
    """
    return _model("dpcrn-light", pretrained, checkpoint, device, options)


def tf_gridnet(pretrained=True, checkpoint=None, device=None, **options):
    """TF-GridNet: noise suppression of whole recordings, 1.6 M parameters, 16 kHz; it cannot stream.

    Args:
        pretrained (bool): no weights ship with this release, so give False, for random ones ready to train, or
            `checkpoint`.
        checkpoint (str): other weights: a folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default the CPU; `map_location` is another word for it.
        **options: of `deepvqe_hub.load`, such as `revision` for a Hub repository.

    Returns:
        deepvqe_hub.EnhancementModel, a torch.nn.Module: (..., time) to (..., time), float within ±1 at
        `model.sample_rate`.

    Example:
        >>> model = torch.hub.load("OWNER/deepvqe-hub", "tf_gridnet", pretrained=False, trust_repo=True)

    Paper: TF-GridNet, Wang et al., 2023, https://arxiv.org/abs/2211.12433. Licence: Apache-2.0.
    """
    return _model("tf-gridnet", pretrained, checkpoint, device, options)


def enhancer(checkpoint="deepvqe-s", device=None, **options):
    """Any of these models as a SpeechBrain `Pretrained`; needs speechbrain, the others do not.

    Args:
        checkpoint (str): a model's name, a checkpoint folder, a Hugging Face Hub repository "owner/name", or a file.
        device (str): where to put the model, by default where SpeechBrain would; `map_location` is another word for it.
        **options: of `deepvqe_hub.Enhancer.from_pretrained`, such as `run_opts` or `revision`.

    Returns:
        deepvqe_hub.Enhancer, with `enhance_file`, `enhance_batch` and `enhance_stream`.

    Example:
        >>> enhancer = torch.hub.load("OWNER/deepvqe-hub", "enhancer", trust_repo=True)
        >>> enhancer.enhance_file("noisy.wav", output_filename="clean.wav")
    """
    from deepvqe_hub import Enhancer

    device = _usual(device, options)
    return Enhancer.from_pretrained(checkpoint, device=device, **options)
