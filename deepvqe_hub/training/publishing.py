"""From a finished run to a checkpoint folder."""

from __future__ import annotations

from pathlib import Path


def publish(brain, folder: str | Path, card: dict | None = None) -> None:
    """Write the averaged weights of the best checkpoint as a folder for :func:`deepvqe_hub.load`.

    Args:
        brain: an :class:`~deepvqe_hub.training.EnhancementBrain` after ``fit``.
        folder: where to; what a previous run wrote there is replaced.
        card: what the model card says beside what the run knows: data, licence, limits.
    """
    from deepvqe_hub.hub import save_folder

    best = brain.checkpointer.recover_if_possible(min_key="loss")
    run = {name: best.meta[name] for name in best.meta if isinstance(best.meta[name], (int, float))}
    save_folder(brain.average.module.eval(), folder, card={**(card or {}), "run": run})
