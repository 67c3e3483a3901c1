"""Model cards: what they say, and the licence that is read from them."""

import re

import numpy as np
import pytest
import torch
from hub_server import TINY
from huggingface_hub import ModelCard

import deepvqe_hub
from deepvqe_hub import EnhancementModel, load
from deepvqe_hub.hub import registry, save_folder
from deepvqe_hub.hub.card import usage_of
from deepvqe_hub.models import NETWORKS, DeepVQE


def test_model_card(folder):
    text = (folder / "README.md").read_text()
    data = ModelCard(text).data
    assert data.pipeline_tag == "audio-to-audio" and data.license == "apache-2.0" and data.library_name == "deepvqe-hub"
    assert data.eval_results[0].metric_value == 2.5
    for way in ("deepvqe_hub.load", "torch.hub.load", "Enhancer.from_hparams"):
        assert way in text
    model = deepvqe_hub.load("deepvqe-s")
    model.save_pretrained(folder.parent / "mine")
    text = (folder.parent / "mine" / "README.md").read_text()
    assert "# mine\n" in text and text.count('"./mine"') == 4 and "deepvqe-s" not in text
    assert usage_of(text, "someone/mine").count('"someone/mine"') == 4
    with pytest.raises(ValueError, match="licence"):
        deepvqe_hub.hub.save_folder(EnhancementModel.from_config(TINY), folder, {"licence": "mit"}, overwrite=True)


def test_a_card_says_when_the_network_is_not_in_the_package(monkeypatch):
    class Mine(DeepVQE):
        pass

    monkeypatch.setitem(NETWORKS, "Mine", Mine)
    text = EnhancementModel.from_config({**TINY, "network": "Mine"}).generate_model_card().content
    assert "| network | `Mine`, " in text and 'NETWORKS["Mine"] = Mine\n' in text
    assert "NETWORKS" not in EnhancementModel.from_config(TINY).generate_model_card().content


@pytest.mark.parametrize("name", ["deepvqe-s", "deepvqe-aec-s", "tf-gridnet"])
def test_what_the_hub_filters_by(name):
    model = EnhancementModel.from_config(name)
    card = model.generate_model_card(license="mit")
    assert card.data.license == "mit" and {"noise-suppression", "dereverberation"} < set(card.data.tags)
    assert "noise suppression and dereverberation |" in card.text
    assert ("acoustic-echo-cancellation" in card.data.tags) == ("echo cancellation, noise" in card.text) == model.farend
    assert ("streaming" in card.data.tags) == model.network.streams


@pytest.mark.parametrize("name", ["deepvqe", "deepvqe-s", "deepvqe-aec", "deepvqe-aec-s"])
def test_cards_in_the_package_are_filed_as_new_ones_are(name):
    shipped = ModelCard((registry.ENTRIES[name].folder / "README.md").read_text(encoding="utf-8"))
    new = load(name).generate_model_card()
    assert sorted(shipped.data.tags) == sorted(new.data.tags)
    task = next(line for line in new.text.splitlines() if line.startswith("| task |"))
    assert task in shipped.text.splitlines()


def test_numbers_of_numpy_and_torch_in_a_model_card(model, tmp_path):
    numbers = {"PESQ-WB": np.float64(2.5), "STOI": np.float32(0.5), "SI-SDR": torch.tensor(9.0), "files": np.int64(60)}
    model.save_pretrained(tmp_path / "m", model_card_kwargs={"results": {"mine": numbers, "other": {"STOI": 0.25}}})
    card = ModelCard.load(tmp_path / "m" / "README.md")
    assert [result.metric_value for result in card.data.eval_results] == [2.5, 0.5, 9.0, 60, 0.25]
    assert "| mine | 2.5 | 0.5 | 9.0 | 60 |" in card.content and "| other |  | 0.25 |  |  |" in card.content
    for value in ("2.5", None, np.zeros(3), float("nan")):
        with pytest.raises(ValueError, match="the result PESQ-WB of a model card must be a number"):
            save_folder(model, tmp_path / "n", {"results": {"mine": {"PESQ-WB": value}}})


def test_options_that_would_do_nothing_are_refused(model, tmp_path):
    with pytest.raises(TypeError, match=r"license.*model_card_kwargs"):
        model.save_pretrained(tmp_path / "m", license="mit")
    assert not (tmp_path / "m").exists()


def test_the_licence_is_that_of_the_weights(folder, model, tmp_path):
    def stated(folder):
        return re.search(r"^license: (.+)$", (folder / "README.md").read_text(), re.M)[1]

    theirs = save_folder(model, tmp_path / "theirs", {"license": "cc-by-nc-4.0"})
    assert load(theirs).license == "cc-by-nc-4.0"
    assert stated(save_folder(load(theirs), tmp_path / "a")) == "cc-by-nc-4.0"
    assert stated(save_folder(load(theirs), tmp_path / "b", {"license": "mit"})) == "mit"
    assert model.license == load(folder).license == load("deepvqe-s").license == "apache-2.0"
    (theirs / "README.md").write_text("---\nlicense: CC BY-NC 4.0  # as they call it\n---\n")
    assert load(theirs).license == "CC BY-NC 4.0"
    (theirs / "README.md").write_text("# No metadata\nlicense: mit\n")
    assert load(theirs).license == "unknown" and stated(save_folder(load(theirs), tmp_path / "c")) == "unknown"
    (theirs / "README.md").unlink()
    assert load(theirs).license == "unknown"


@pytest.mark.parametrize("name", ["deepvqe-aec", "deepvqe-aec-s"])
def test_limits_of_a_card_are_of_its_results(name):
    card = ModelCard((registry.ENTRIES[name].folder / "README.md").read_text(encoding="utf-8"))
    (results,) = card.data.to_dict()["model-index"][0]["results"]
    value = next(metric["value"] for metric in results["metrics"] if metric["name"] == "double talk, SI-SDR (dB)")
    assert f"SI-SDR rises from -8.4 to {value:.1f} dB" in card.content
