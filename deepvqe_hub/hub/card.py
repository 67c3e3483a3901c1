"""The two files of a checkpoint folder that are not for us: the model card, and SpeechBrain's hyperparameter file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.hub import registry
from deepvqe_hub.hub.checkpoint import UNKNOWN_LICENSE

PAPERS = {
    "DeepVQE": ("DeepVQE (Indenbom et al., Interspeech 2023)", "https://arxiv.org/abs/2306.03177"),
    "DPCRN": ("DPCRN (Le et al., Interspeech 2021)", "https://arxiv.org/abs/2107.05429"),
    "TFGridNet": ("TF-GridNet (Wang et al., 2023)", "https://arxiv.org/abs/2211.12433"),
}
"""Title and address of the paper of each network."""

_KEYS = (
    *("name", "repo_id", "license", "description", "training", "results", "limits"),
    *("datasets", "language", "base_model", "tags"),
)

_BODY = Template("""
# $name

$description

| | |
|---|---|
| task | $task |
| network | $network, $parameters parameters |
| sample rate | $rate Hz |
| algorithmic latency | $latency |
| licence of the weights | $license |
$training$results
## Usage

```
pip install deepvqe-hub
```
$foreign
PyTorch:

```python
import deepvqe_hub

model = deepvqe_hub.load("$source")      # or EnhancementModel.from_pretrained
clean = model(noisy)                     # (..., time) at $rate Hz, same shape out$farend
```

torch.hub, without installing the package:

```python
import torch

model = torch.hub.load("OWNER/deepvqe-hub", "$entry", checkpoint="$source", trust_repo=True)
```

SpeechBrain (`pip install 'deepvqe-hub[speechbrain]'`):

```python
from deepvqe_hub import Enhancer

enhancer = Enhancer.from_hparams(source="$source", savedir="pretrained/$name")
enhancer.enhance_file("noisy.wav", output_filename="clean.wav")
```

`from_hparams` evaluates `hyperparams.yaml`, as every SpeechBrain model does. `Enhancer.from_pretrained("$source")`
gives the same object from `config.json` and `model.safetensors` alone. SpeechBrain's own `WaveformEnhancement` loads
this repository as well.
$limits""")

_FOREIGN = Template("""
The class `$network` is no part of deepvqe-hub. Import it and make it known before anything below:

```python
from deepvqe_hub.models import NETWORKS

NETWORKS["$network"] = $network
```
""")

_YAML = Template("""# For SpeechBrain: deepvqe_hub.Enhancer.from_hparams, or speechbrain.inference.WaveformEnhancement.
# Made from config.json, which is what everything else reads.
sample_rate: $rate

# Where the weights are, if not beside this file: a folder or a Hub repository.
pretrained_path: null

model: !new:deepvqe_hub.enhancer.SpeechBrainModel
  config: $config

modules:
  enhance_model: !ref <model>

audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: !ref <sample_rate>
  mix: avg-to-mono

pretrainer: !new:deepvqe_hub.enhancer.FolderPretrainer
  folder: !ref <pretrained_path>
  loadables:
    model: !ref <model>
  custom_hooks:
    model: !name:deepvqe_hub.enhancer.load_weights
""")


def hyperparams(config: Mapping) -> str:
    """The text of `hyperparams.yaml` for a config (JSON is YAML, so the config stands in it as it is)."""
    return _YAML.substitute(rate=config["sample_rate"], config=json.dumps(config))


def model_card(model: EnhancementModel, card: Mapping[str, Any] | None = None, source: str | None = None) -> str:
    """The text of a model card, with the metadata that the Hub filters by.

    Args:
        model: what the card is of.
        card: any of

            * `name`: title, such as "deepvqe-s";
            * `repo_id`: where it will stand on the Hub, for the usage examples;
            * `license`: of the weights, an identifier of the Hub, by default `model.license`;
            * `description`: a paragraph;
            * `training`: a paragraph on data, losses and hardware;
            * `datasets`, `language`, `base_model`, `tags`: as on the Hub;
            * `results`: `{data set: {metric: value}}`, such as `{"DNS3 no-reverb": {"PESQ-WB": 2.9}}`;
            * `limits`: a paragraph on what the model is not for.

    Raises:
        ValueError: for a key that is none of these.
    """
    card = dict(card or {})
    card["license"] = card.get("license") or model.license
    unknown = sorted(set(card) - set(_KEYS))
    if unknown:
        raise ValueError(f"a model card has no {', '.join(unknown)}; it has {', '.join(_KEYS)}")
    network = model.config["network"]
    name = card.get("name") or str(card.get("repo_id") or source or network).rsplit("/")[-1]
    task = "noise suppression and dereverberation"
    task = f"echo cancellation, {task}" if model.farend else task
    ours = network in PAPERS
    causal = getattr(model.network, "streams", False)
    body = _BODY.substitute(
        name=name,
        description=card.get("description") or f"Speech enhancement by {network}: {task}.",
        task=task,
        network="[{}]({})".format(*PAPERS[network]) if ours else f"`{network}`",
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
        rate=model.sample_rate,
        latency=f"{1000 * model.latency:g} ms, streams" if causal else "the whole signal",
        license=card["license"] if card["license"] != UNKNOWN_LICENSE else "unknown: see where they came from",
        training=f"\n## Training\n\n{card['training']}\n" if card.get("training") else "",
        results=_results_table(card.get("results") or {}),
        foreign="" if ours else _FOREIGN.substitute(network=network),
        source=card.get("repo_id") or source or name,
        entry=registry.HUB_ENTRIES.get((network, model.farend), ("deepvqe",))[-1],  # each takes them all
        farend="\nclean = model(mic, farend=loudspeaker)   # both of one shape" if model.farend else "",
        limits=f"\n## Limits\n\n{card['limits']}\n" if card.get("limits") else "",
    )
    return f"---\n{_metadata(name, model, card).to_yaml()}\n---\n{body}"


_SOURCE = re.compile(r'((?:deepvqe_hub\.load|from_pretrained)\(|source=|checkpoint=)"(?:\./)?[^"/\n]+"')


def usage_of(text: str, repo_id: str) -> str:
    """A model card's text in which usage examples that name a folder or model, but no repository, name this one."""
    return _SOURCE.sub(rf'\g<1>"{repo_id}"', text)


def license_of(text: str) -> str | None:
    """The licence that the metadata of a model card states, if they do."""
    head = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    found = head and re.search(r"^license:[ \t]*[\"']?([\w.+-](?:[\w.+ -]*[\w.+-])?)", head[1], re.MULTILINE)
    return found[1] if found else None


def _metadata(name: str, model: EnhancementModel, card: Mapping) -> ModelCardData:
    tags = ["speech-enhancement", "noise-suppression", "dereverberation"]
    tags += ["speechbrain", "pytorch_model_hub_mixin", "model_hub_mixin"]
    tags += ["streaming"] if getattr(model.network, "streams", False) else []
    tags += ["acoustic-echo-cancellation"] if model.farend else []
    results = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Speech enhancement",
            dataset_type=dataset.lower().replace(" ", "-"),
            dataset_name=dataset,
            metric_type=metric.lower().replace(" ", "-"),
            metric_name=metric,
            metric_value=_number(value, metric),
        )
        for dataset, metrics in (card.get("results") or {}).items()
        for metric, value in metrics.items()
    ]
    metrics = list(dict.fromkeys(result.metric_type for result in results))
    return ModelCardData(
        license=card["license"],
        library_name="deepvqe-hub",
        pipeline_tag="audio-to-audio",
        tags=list(dict.fromkeys([*tags, *card.get("tags", [])])),
        datasets=card.get("datasets"),
        language=card.get("language"),
        base_model=card.get("base_model"),
        metrics=metrics or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _results_table(results: Mapping[str, Mapping[str, float]]) -> str:
    if not results:
        return ""
    metrics = list(dict.fromkeys(metric for values in results.values() for metric in values))
    rows = [
        f"| {dataset} | " + " | ".join(str(_number(v[m], m)) if m in v else "" for m in metrics) + " |"
        for dataset, v in results.items()
    ]
    head = [f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    return "\n## Results\n\n" + "\n".join(head + rows) + "\n"


def _number(value, metric: str) -> float | int:
    """A plain number, as YAML has no others: of numpy's and torch's, too."""
    try:
        number = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # there are several in it
        number = None
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ValueError(f"the result {metric} of a model card must be a number, not {value!r}")
    return number
