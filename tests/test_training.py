"""The parts of training, without audio files and without `train.py`."""

import copy
import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import deepvqe_hub
from deepvqe_hub import EnhancementModel

pytest.importorskip("speechbrain")

import small_runs
import speechbrain as sb
from small_runs import Drawn, tiny
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger
from tiny import FAREND

from deepvqe_hub.data.recordings import FOLDERS
from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.training import (
    EchoBrain,
    EnhancementBrain,
    SafeCheckpointer,
    WarmupCosine,
    curve,
    distributed,
    echo,
    init_from,
    publish,
    schedule,
    with_recordings,
)
from deepvqe_hub.training.brain import MovingAverage
from deepvqe_hub.training.checks import check_model, check_resume
from deepvqe_hub.training.publishing import labelled


def test_the_licence_and_the_name_of_the_weights_go_on(tmp_path, monkeypatch):
    model, source = tiny(0), tiny(1)
    source.license = "cc-by-nc-4.0"
    init_from(model, source)
    assert model.license == "cc-by-nc-4.0"
    with monkeypatch.context() as begun:
        begun.setattr(TonesBrain, "base_model", "someone/tiny")
        fit(tmp_path, stop=5, license="mit")
    brain = fit(tmp_path, hparams={"seed": 0, "number_of_epochs": 2})
    assert brain.model.license == "mit"
    assert deepvqe_hub.load(publish(brain, tmp_path / "published")).license == "mit"
    assert "\nbase_model: someone/tiny\n" in (tmp_path / "published/README.md").read_text()
    assert deepvqe_hub.load(publish(brain, tmp_path / "named", {"license": "cc0-1.0"})).license == "cc0-1.0"


def test_a_card_says_no_more_of_the_data_than_the_run_knows(tmp_path):
    settings = {"seed": 0, "number_of_epochs": 1}
    brain = fit(tmp_path, epochs=1, hparams=settings)
    text = (publish(brain, tmp_path / "own") / "README.md").read_text()
    assert " hours of audio (segments of " in text and "on the fly" not in text
    brain.hparams.recordings_folder, brain.hparams.recordings_portion = "recordings", 0.2
    text = (publish(brain, tmp_path / "both") / "README.md").read_text()
    assert " hours of audio, 20% of it mixed beforehand (segments of " in text
    assert labelled({"loss": 3.0, "si_sdr": torch.nan, "stoi": 0.91234}) == {"STOI": 0.912}


def test_what_a_model_gives_between_batches_is_none_of_theirs(tmp_path):
    class Listening(EchoBrain):
        def on_fit_batch_start(self, batch, should_step):
            super().on_fit_batch_start(batch, should_step)
            self.average.module(*torch.zeros(2, 3, 999))

    brain, _ = small_runs.fit(tmp_path / "run", Listening)
    assert len(brain.scores["delay_hits"]) == 8 * 9


class Killed(Exception):
    pass


class Tones(Drawn):
    """Noisy tones."""

    def draw(self, generator):
        clean = torch.sin(torch.arange(2048) * torch.rand((), generator=generator)) * 0.1
        return {"clean": clean, "noisy": clean + 0.05 * torch.randn(2048, generator=generator)}


class TonesBrain(EnhancementBrain):
    losses: list
    stop: int | None = None

    def signals(self, batch):
        return batch

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        self.losses.append(loss.item())
        if len(self.losses) == self.stop:
            raise Killed


def fit(
    folder,
    stop=None,
    epochs=2,
    accumulation=1,
    interval=4,
    workers=0,
    loss=None,
    batch=2,
    hparams=None,
    license="apache-2.0",
    **options,
):
    """Losses of a run on tones, and its brain; `stop` raises an error after so many batches."""
    folder.mkdir(exist_ok=True)
    model, counter = tiny(3), EpochCounter(epochs)
    model.license = license
    brain = TonesBrain(
        {"model": model},
        lambda parameters: torch.optim.AdamW(parameters, 1e-3),
        {
            "loss": loss or SpeechLoss(),
            "lr_schedule": WarmupCosine(1e-2, 2),
            "ema_decay": 0.9,
            "valid_metrics": ["si_sdr"],
            "sample_rate": 16000,
            "batch_size": batch,
            "segment_seconds": 0.128,
            "train_logger": FileTrainLogger(str(folder / "train_log.txt")),
            **(hparams or {}),
        },
        {
            "device": "cpu",
            "noprogressbar": True,
            "ckpt_interval_steps": interval,
            "grad_accumulation_factor": accumulation,
            **options,
        },
        SafeCheckpointer(folder / "save", {"model": model, "counter": counter}),
    )
    brain.losses, brain.stop = [], stop
    loader = {"batch_size": batch, "num_workers": workers}
    try:
        brain.fit(counter, Tones(13), Tones(13), train_loader_kwargs=loader, valid_loader_kwargs=loader)
    except Killed:
        assert stop
    return brain


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("stop", "resumed_at"), [(5, 4), (6, 4), (9, 6), (11, 10)])
def test_resumed_run_goes_on_as_if_nothing_had_been(tmp_path, whole, stop, resumed_at):
    """Six batches an epoch, a checkpoint every four and after each epoch."""
    fit(tmp_path, stop=stop)
    rest = fit(tmp_path)
    assert rest.losses == whole.losses[resumed_at:]
    assert rest.optimizer_step == 12
    for (name, value), other in zip(whole.average.state_dict().items(), rest.average.state_dict().values()):
        assert torch.equal(value, other), name


def test_hours_and_rate_go_on_with_another_batch_size(tmp_path):
    """Two epochs of six batches of two, then one of three of four: 36 items, and the rate of the end of epoch three."""
    fit(tmp_path)
    brain = fit(tmp_path, epochs=3, batch=4)
    assert len(brain.losses) == 3 and brain.optimizer_step == 15
    assert brain.train_data.epoch == 3  # each draws items of its own
    assert last_meta(tmp_path)["hours"] == pytest.approx(36 * 0.128 / 3600)
    # The schedule of nine steps, three an epoch, is at its last one.
    assert brain.optimizer.param_groups[0]["lr"] == WarmupCosine(1e-2, 2)(8, 9)


def test_another_batch_size_within_an_epoch_is_refused(tmp_path):
    """The place in the epoch is a number of batches: others would skip items or repeat them."""
    fit(tmp_path, stop=5)
    with pytest.raises(ValueError, match=r"stopped within an epoch with 2 items.*there are 4"):
        fit(tmp_path, batch=4)
    assert fit(tmp_path).optimizer_step == 12


def test_a_run_ends_by_the_clock(tmp_path, monkeypatch):
    """A batch takes a second: eight of the 24 planned ones, whether interrupted or not, and more only if asked for."""
    now, start = [0.0], TonesBrain.on_fit_batch_start

    def takes_a_second(brain, *args):
        now[0] += 1
        start(brain, *args)

    monkeypatch.setattr(TonesBrain, "on_fit_batch_start", takes_a_second)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))
    limited = {"epochs": 4, "hparams": {"minutes": 8 / 60}}
    brain = fit(tmp_path / "whole", **limited)
    assert len(brain.losses) == 8
    assert brain.optimizer.param_groups[0]["lr"] == WarmupCosine(1e-2, 2)(7, 8)  # the last step of the cosine
    fit(tmp_path / "parts", stop=5, **limited)
    now[0] += 100  # nobody counts what passes between
    assert fit(tmp_path / "parts", **limited).losses == brain.losses[4:]
    assert fit(tmp_path / "parts", **limited).losses == []
    assert last_meta(tmp_path / "parts")["epoch"] == 2
    assert fit(tmp_path / "parts", epochs=4, hparams={"minutes": 1}).optimizer_step == 20


@pytest.mark.parametrize("recipe", ["DNS3", "AEC"])
def test_recipes_have_all_optional_settings(recipe):
    settings = (Path(__file__).parent.parent / "recipes" / recipe / "hparams" / "base.yaml").read_text()
    for name in EnhancementBrain.DEFAULTS:
        assert f"\n{name}: " in settings and f"`{name}`" in EnhancementBrain.__doc__


def test_accumulation_saves_only_whole_steps(tmp_path):
    """Asked for a checkpoint every three batches, it waits for the fourth: gradients are not saved."""
    whole = fit(tmp_path / "whole", accumulation=2, interval=3)
    assert whole.optimizer_step == 6
    fit(tmp_path / "killed", accumulation=2, interval=3, stop=5)
    assert fit(tmp_path / "killed", accumulation=2, interval=3).losses == whole.losses[4:]


def test_batches_of_a_step_have_one_rate_and_count_once_in_the_average(tmp_path, monkeypatch):
    """The average of few steps is their mean; so is that of the norms' statistics, which validation hears by."""
    rates, states, end = [], [], TonesBrain.on_fit_batch_end

    def keep(brain, batch, outputs, loss, should_step):
        end(brain, batch, outputs, loss, should_step)
        rates.append(brain.optimizer.param_groups[0]["lr"])
        if should_step:
            states.append(copy.deepcopy(brain.model.state_dict()))

    monkeypatch.setattr(TonesBrain, "on_fit_batch_end", keep)
    brain = fit(tmp_path, epochs=1, accumulation=2)
    assert rates == [WarmupCosine(1e-2, 2)(step, 3) for step in (0, 0, 1, 1, 2, 2)]
    for name, value in brain.average.module.state_dict().items():
        steps = torch.stack([state[name] for state in states])
        torch.testing.assert_close(value, steps.mean(0) if value.is_floating_point() else steps[-1])


def test_only_the_network_computes_in_another_precision(tmp_path, monkeypatch):
    """Mixtures and losses in bfloat16 would be coarse."""
    seen = {"network": set(), "signals": set(), "loss": set()}

    def spy(kind, method, name):
        def forward(self, *args):
            seen[name].add(torch.is_autocast_enabled("cpu"))
            return method(self, *args)

        monkeypatch.setattr(kind, method.__name__, forward)

    spy(EnhancementModel, EnhancementModel.forward, "network")
    spy(TonesBrain, TonesBrain.signals, "signals")
    spy(SpeechLoss, SpeechLoss.forward, "loss")
    fit(tmp_path, epochs=1, precision="bf16")
    assert True in seen["network"] and seen["signals"] == seen["loss"] == {False}


def test_the_loss_is_on_the_device_of_the_training(tmp_path):
    brain = TonesBrain(
        {"model": tiny(3)},
        lambda parameters: torch.optim.AdamW(parameters, 1e-3),
        {"loss": torch.nn.Sequential(torch.nn.Linear(2, 2))},
        {"device": "meta"},
    )
    assert {parameter.device.type for parameter in brain.hparams.loss.parameters()} == {"meta"}


def test_a_model_that_broke_is_not_the_best(tmp_path, monkeypatch):
    broken = []

    class Loss(SpeechLoss):
        def forward(self, estimate, target):
            loss = super().forward(estimate, target)
            return loss * torch.nan if broken and not loss.requires_grad else loss

    original = TonesBrain.on_stage_start

    def on_stage_start(self, stage, epoch=None):
        broken[:] = [True] if epoch == 2 else []
        original(self, stage, epoch)

    monkeypatch.setattr(TonesBrain, "on_stage_start", on_stage_start)
    brain = fit(tmp_path, epochs=2, loss=Loss(), hparams={"seed": 0, "number_of_epochs": 2})
    best = SafeCheckpointer(tmp_path / "save").find_checkpoint(min_key="loss")
    assert best.meta["epoch"] == 1
    model = deepvqe_hub.load(publish(brain, tmp_path / "model"))
    average = torch.load(best.paramfiles["average"], weights_only=True)
    assert all(torch.equal(average[f"module.{name}"], value) for name, value in model.state_dict().items())
    assert "after epoch 1 of 2" in (tmp_path / "model/README.md").read_text()
    assert "valid loss: inf" in (tmp_path / "train_log.txt").read_text()


def test_a_gradient_of_nan_costs_its_step_only(tmp_path):
    """As the recipes set it; without the option everything after the third batch is NaN."""

    class Poisoned(SpeechLoss):
        calls = 0

        def forward(self, estimate, target):
            self.calls += 1
            if self.calls == 3:
                estimate.register_hook(lambda gradient: gradient * torch.nan)
            return super().forward(estimate, target)

    brain = fit(tmp_path, loss=Poisoned(), skip_nonfinite_grads=True)
    assert len(brain.losses) == 12 and torch.tensor(brain.losses).isfinite().all()
    assert all(value.isfinite().all() for value in brain.average.state_dict().values())


def test_frozen_norms_train_the_function_that_is_published(tmp_path, whole):
    """The first batch is heard as after training, not through statistics of its own, and those kept do not move."""
    brain, model = fit(tmp_path, hparams={"freeze_norms": True}), tiny(3).eval()
    first = Tones(13)
    first.set_epoch(1)
    clean, noisy = torch.utils.data.default_collate([first[0], first[1]]).values()
    with torch.no_grad():
        expected = float(SpeechLoss()(model(noisy), clean))
    assert brain.losses[0] == pytest.approx(expected, rel=1e-5)
    assert whole.losses[0] != pytest.approx(expected, rel=1e-3)
    before, after = model.state_dict(), brain.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    assert not torch.equal(before["network.enblock1.bn.weight"], after["network.enblock1.bn.weight"])


def test_scenes_that_follow_one_another(tmp_path, monkeypatch):
    """In every other batch the items are one signal for the network, and items for the loss."""
    shapes, forward = [], EnhancementModel.forward

    def spy(self, noisy, *others):
        shapes.append(tuple(noisy.shape))
        return forward(self, noisy, *others)

    monkeypatch.setattr(EnhancementModel, "forward", spy)
    brain, model = fit(tmp_path, hparams={"freeze_norms": True, "chain": 2}), tiny(3).eval()
    first = Tones(13)
    first.set_epoch(1)
    clean, noisy = torch.utils.data.default_collate([first[0], first[1]]).values()
    assert shapes[:3] == [(1, noisy.numel()), tuple(noisy.shape), (1, noisy.numel())]
    with torch.no_grad():
        expected, alone = (
            float(SpeechLoss()(forward(model, wave).reshape_as(clean), clean)) for wave in (noisy.reshape(1, -1), noisy)
        )
    assert brain.losses[0] == pytest.approx(expected, rel=1e-5) and expected != pytest.approx(alone, rel=1e-4)


def test_which_batches_are_chained():
    """Every other one in training, and where the bottleneck alone learns all but those of the test."""
    train, valid, test = sb.Stage.TRAIN, sb.Stage.VALID, sb.Stage.TEST

    def scenes(stage, step=1, items=4, matching=None):
        brain = SimpleNamespace(step=step, matching=matching, hparams=SimpleNamespace(chain=2))
        return EnhancementBrain.scenes_in_a_signal(brain, stage, items)

    assert [scenes(train, step) for step in (1, 2, 3)] == [2, 1, 2]
    assert [scenes(stage) for stage in (valid, test)] == [1, 1]
    assert [scenes(stage, 2, matching=True) for stage in (train, valid, test)] == [2, 2, 1]
    assert scenes(train, items=3) == 1


def test_only_the_bottleneck_learns(tmp_path):
    options = {"bottleneck_only": True, "chain": 2}
    whole, start = fit(tmp_path / "whole", epochs=6, hparams=options), tiny(3).state_dict()
    assert sum(whole.losses[-6:]) < 0.9 * sum(whole.losses[:6])
    changed = {name for name, value in whole.model.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == {name for name in start if "bottle" in name}
    taught = whole.matching.teacher.state_dict()
    assert all(torch.equal(value, start[f"network.bottle.{name}"]) for name, value in taught.items())
    fit(tmp_path / "killed", epochs=6, stop=9, hparams=options)
    assert fit(tmp_path / "killed", epochs=6, hparams=options).losses == whole.losses[6:]
    checkpoint = SafeCheckpointer(tmp_path / "whole/save").find_checkpoint()
    settings = {"modules": {"model": tiny()}, "bottleneck_only": False, "output_folder": "out", "preset": "tiny"}
    check_resume(checkpoint, settings, test_only=True)  # a test learns nothing
    with pytest.raises(ValueError, match="--bottleneck_only: out holds a run with another value"):
        check_resume(checkpoint, settings, test_only=False)


@pytest.mark.parametrize("chain", [1, 2, 4])
def test_processes_share_scenes_that_follow_one_another(chain, monkeypatch):
    """The k-th batches of both are together that of one process, in the same groups."""
    shares = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.share(19, 4, chain))
    assert [len(items) for items in shares] == [8, 8]
    for start in (0, 4):
        batches = [items[start : start + 4] for items in shares]
        assert sorted([*batches[0], *batches[1]]) == list(range(2 * start, 2 * start + 8))
        groups = [batch[i : i + chain] for batch in batches for i in range(0, 4, chain)]
        assert all(group == list(range(group[0], group[0] + chain)) and group[0] % chain == 0 for group in groups)


def test_delays_of_scenes_that_follow_one_another():
    blocks = [torch.rand(2, 5, 6), torch.rand(2, 6, 6)]  # (signals, frames, dmax), longest delay first
    brain = SimpleNamespace(
        hparams=SimpleNamespace(sample_rate=16000),
        model=SimpleNamespace(stft=SimpleNamespace(hop_length=256)),
    )
    delay = torch.arange(4.0)[:, None].expand(4, 6) * 256 / 16000  # four scenes of five steps in two signals
    frames, weights = EchoBrain.delay_in_frames(brain, {"delay": delay, "auxiliary": blocks})
    whole = torch.cat(blocks, 1).flip(-1)
    wanted = torch.stack([whole[0, :6], whole[0, 5:], whole[1, :6], whole[1, 5:]])
    assert torch.equal(weights, wanted.flatten(0, 1)) and frames.tolist() == [i for i in range(4) for _ in range(6)]
    recordings = EchoBrain.signals(brain, dict.fromkeys(("mic", "farend", "clean"), torch.zeros(4, 5 * 256)))
    assert recordings["delay"].shape == (4, 6)
    frames, weights = EchoBrain.delay_in_frames(brain, {**recordings, "auxiliary": blocks})
    assert len(frames) == len(weights) == 0


def test_delays_that_are_taught_and_measured():
    """Delays between two frames are shared between them; those beyond the longest, and unknown ones, do not count."""
    brain = object.__new__(EchoBrain)
    brain.model, brain.matching, brain.scores = SimpleNamespace(stft=SimpleNamespace(hop_length=256)), None, {}
    brain.hparams, brain.metrics = SimpleNamespace(sample_rate=16384, delay_weight=0.5), ["si_sdr"]
    frames, weights = torch.tensor([[0.0, 1.25, 5.0, 5.5, -64.0, 3.0]]), torch.rand(1, 6, 6).softmax(-1)
    predictions = {"loss": torch.tensor(2.0), "delay": frames / 64, "auxiliary": [weights]}
    log = weights[0].flip(-1).log()
    expected = -(log[0, 0] + 0.75 * log[1, 1] + 0.25 * log[1, 2] + log[2, 5] + log[5, 3]) / 4
    loss = brain.compute_objectives(predictions, None, sb.Stage.TRAIN)
    torch.testing.assert_close(loss, 2 + 0.5 * expected)
    found = torch.nn.functional.one_hot(torch.tensor([[0, 2, 3, 0, 0, 4]]), 6).flip(-1)
    waves = {name: torch.randn(1, 1280) for name in ("enhanced", "clean", "noisy", "farend")}
    brain.score({**predictions, **waves, "auxiliary": [found]}, 0.0)
    assert brain.scores["delay_hits"] == [1, 1, 0, 1]


def test_killed_while_writing_a_checkpoint(tmp_path, whole, monkeypatch):
    save, count = torch.save, iter(range(100))

    def killed(*args):
        if next(count) == 4:  # in the second checkpoint
            raise Killed
        save(*args)

    monkeypatch.setattr(torch, "save", killed)
    fit(tmp_path, stop=100)
    monkeypatch.undo()
    assert list((tmp_path / "save" / "unfinished").iterdir())
    assert fit(tmp_path).losses == whole.losses[4:]
    assert not (tmp_path / "save" / "unfinished").exists()


def test_validation_uses_the_average_and_leaves_it_as_it_is(tmp_path):
    brain = fit(tmp_path, epochs=1)
    before = copy.deepcopy(brain.average.state_dict())
    assert not brain.average.module.training
    brain._fit_valid(brain.make_dataloader(Tones(13), sb.Stage.VALID, batch_size=3), 1, enable=False)
    assert all(torch.equal(before[name], value) for name, value in brain.average.state_dict().items())
    with torch.no_grad():
        batch = torch.utils.data.default_collate([Tones(13)[index] for index in range(13)])
        expected = [float(SpeechLoss()(brain.average.module(x[None]), y[None])) for y, x in zip(*batch.values())]
    # Items count alike, whatever the batches: 13 in batches of 3.
    assert float(torch.tensor(expected).mean()) == pytest.approx(last_meta(tmp_path)["loss"], rel=1e-4)
    brain.hparams.test_metrics = ["si_sdr", "estoi"]
    brain.on_stage_start(sb.Stage.TEST)
    assert brain.metrics == ["si_sdr", "estoi"]
    # What a measure cannot score leaves the mean to the others.
    brain.scores = {"loss": [1.0, 3.0], "si_sdr": [torch.nan, 4.0]}
    brain.on_stage_end(sb.Stage.VALID, None, 1)
    assert (last_meta(tmp_path)["loss"], last_meta(tmp_path)["si_sdr"]) == (2, 4)


def test_recordings_take_turns_over_the_epochs_and_leave_out_the_test_split(tmp_path, monkeypatch):
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
        for number in range(7):
            soundfile.write(tmp_path / folder / f"x_fileid_{number}.wav", np.full(800, 0.1 * number), 16000)
    (tmp_path / "meta.csv").write_text(
        "fileid,split\n" + "".join(f"{k},{'train' if k else 'test'}\n" for k in range(7))
    )
    hparams = {"recordings_folder": tmp_path, "recordings_portion": 0.5, "segment_seconds": 0.05, "seed": 1}
    hparams |= {"sample_rate": 16000, "cache": False, "batch_size": 2}
    data = with_recordings(hparams, Tones(13))
    with monkeypatch.context() as two:
        two.setattr(echo, "world_size", lambda: 2)
        assert with_recordings(hparams, Tones(13)).batch == 4  # that of both processes is of one kind
    assert data.recordings.seed == 1

    def scenes(epoch, indices):
        data.set_epoch(epoch)
        return [round(10 * float(data[index]["mic"][0])) for index in indices]

    assert ["mic" in data[index] for index in range(12)] == [False, False, True, True] * 3
    turns = scenes(1, [2, 3, 6, 7, 10, 11])
    assert sorted(turns) == list(range(1, 7)) != turns
    data.portion = 1 / 6  # one batch of two: three epochs hear the six of them
    assert sorted(scenes(1, [10, 11]) + scenes(2, [10, 11]) + scenes(3, [10, 11])) == list(range(1, 7))
    data.portion = 1 / 60  # less than one an epoch: one in ten epochs

    def recorded(epoch):
        data.set_epoch(epoch)
        return sum("mic" in data[index] for index in range(12))

    assert [recorded(epoch) for epoch in range(20)] == ([0] * 9 + [2]) * 2


def test_recordings_are_decoded_once_for_all_workers(tmp_path):
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
        for k in range(2):
            soundfile.write(tmp_path / folder / f"x_fileid_{k}.wav", np.full(1600, 0.1), 16000)
    hparams = {"recordings_folder": tmp_path, "recordings_portion": 0.5, "segment_seconds": 0.05, "seed": 1}
    data = with_recordings(
        hparams | {"sample_rate": 16000, "cache": True, "num_workers": 1, "batch_size": 2}, Tones(13)
    )
    assert all(len(pool._cached) == 2 for pool in data.recordings.pools.values())
    (tmp_path / "meta.csv").write_text("name,split\na,train\n")
    with pytest.raises(ValueError, match="column fileid"):
        with_recordings(hparams, Tones(13))


def last_meta(folder):
    return SafeCheckpointer(folder / "save").find_checkpoint().meta


def test_moving_average():
    update, average = MovingAverage(0.9), [torch.zeros(1), torch.zeros(2)]
    for count in range(1, 200):
        update(average, [torch.ones(1), torch.full((2,), 2.0)], torch.tensor(count))
    assert average[0] == pytest.approx(1, abs=1e-3) and average[1][0] == pytest.approx(2, abs=1e-3)
    counter = [torch.tensor(3)]
    update(counter, [torch.tensor(7)], torch.tensor(5))
    assert counter[0] == 7


def test_schedule():
    rate = WarmupCosine(1.0, 10, floor=0.1)
    assert WarmupCosine(1.0, 10)(110, 110) == pytest.approx(0.01)
    assert [rate(step, 110) for step in (0, 9, 10, 60, 110, 500)] == pytest.approx([0.1, 1, 1, 0.55, 0.1, 0.1])


def test_curve(tmp_path):
    log = tmp_path / "train_log.txt"
    log.write_text(
        "epoch: 1, lr: 1.20e-03, hours: 6.67e-03 - train loss: 41.61 - valid loss: 14.24, valid si_sdr: -1.5e-01\n"
        "epoch: 2, lr: 1.00e-03, hours: 1.33 - train loss: nan - valid loss: 11.04, valid si_sdr: 4.57\n"
        "epoch: 2, lr: 1.00e-03, hours: 1.33 - train loss: 32.93 - valid loss: 11.00, valid si_sdr: 4.57\n"
    )
    rows = curve.read_log(log)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1] == {
        "epoch": 2,
        "lr": 1e-3,
        "hours": 1.33,
        "train loss": 32.93,
        "valid loss": 11.0,
        "valid si_sdr": 4.57,
    }
    pytest.importorskip("matplotlib")
    curve.main([str(log), str(log), str(tmp_path / "out.png")])
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert curve._label(log, [log, tmp_path / "other.txt"]) == tmp_path.name
    assert curve._label(tmp_path / "other.txt", [log, tmp_path / "other.txt"]) == "other.txt"
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="logs no epoch"):
        curve.read_log(tmp_path / "empty.txt")


def test_channels_last_is_the_same_function():
    model = tiny(4)
    noisy = torch.randn(2, 4000)
    expected = model(noisy)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(noisy), expected, atol=1e-5, rtol=1e-4)


def test_a_far_end_that_nothing_aligns_is_refused_where_alignment_is_taught():
    class Plain(EnhancementBrain):
        farend = True

    hparams = {"modules": {"model": tiny(**FAREND, align=False)}, "preset": "mine", "sample_rate": 16000}
    with pytest.raises(ValueError, match="mine does not align the far end"):
        check_model(hparams, EchoBrain)
    check_model({**hparams, "chain": 2, "segment_seconds": 1.01, "bottleneck_only": False}, Plain)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
def test_processes_share_clips_in_memory(tmp_path):
    brain = fit(tmp_path, epochs=1)
    for cache, expected in ((True, multiprocessing.get_context("fork")), (False, None)):
        brain.hparams.cache = cache
        loader = brain.make_dataloader(Tones(13), sb.Stage.VALID, batch_size=2, num_workers=1)
        assert loader.multiprocessing_context is expected
