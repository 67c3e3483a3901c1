"""Packages that not everybody has: found where they are needed, or an error that says how to get them."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.machinery import ModuleSpec
from types import ModuleType

# OSError: a shared library is missing, such as PortAudio, or CUDA for a torchaudio that was built for it;
# RuntimeError: what was built for one CUDA finds another.
IMPORT_ERRORS = (ImportError, OSError, RuntimeError)


def need(module: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Import an optional module.

    Args:
        module: its full name, such as "matplotlib.figure".
        purpose: what needs it, in the singular, as the message begins with it.
        extra: the extra of this package that has it; None where pip is to be given its own name.

    Raises:
        ModuleNotFoundError: its package is not installed; the text has the command that installs it.
        ImportError: it is installed and cannot be imported; the text has the reason.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)  # first, as an error names what it was looking for
        return importlib.import_module(module)
    except IMPORT_ERRORS as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise _missing(package, purpose, extra) from error
        text = f'{purpose} needs the package "{_pip_name(package)}", which cannot be imported: {error}'
        raise ImportError(text, name=module) from error


def locate(package: str, purpose: str, extra: str | None = None) -> ModuleSpec:
    """Find an optional package without importing it; arguments as for `need`.

    Raises:
        ModuleNotFoundError: it is not installed; the text has the command that installs it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise _missing(package, purpose, extra)
    return spec


def torchaudio_remedies() -> str:
    """What to say of a torchaudio that does not fit torch: its last release declares no torch, so pip takes any."""
    import torch  # which most of what is optional does without

    return (
        f"Found torch {torch.__version__} (CUDA {torch.version.cuda or 'none'}). If torchaudio does not fit:\n"
        "    pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'       a pair known to work\n"
        "    install both anew from PyTorch's package index for one and the same CUDA version, or for the CPU\n"
    )


def no_speechbrain(name: str, extra: str, error: Exception) -> str:
    """What to say where speechbrain, or the torchaudio that it imports, cannot be imported."""
    return (
        f"{name} needs speechbrain and torchaudio, and they cannot be imported: {error}\n"
        "If speechbrain is missing:\n"
        f"    pip install 'deepvqe-hub[{extra}]'\n"
        f"{torchaudio_remedies()}"
    )


def _missing(package: str, purpose: str, extra: str | None) -> ModuleNotFoundError:
    name = _pip_name(package)
    wanted = f'"deepvqe-hub[{extra}]"' if extra else name  # quoted, as brackets are a pattern to some shells
    # pesq is built from source; a machine without a compiler can have the others
    other = ' (no C compiler: "deepvqe-hub[mos]", all but PESQ)' if extra == "metrics" and package != "pesq" else ""
    return ModuleNotFoundError(f'{purpose} needs the package "{name}": pip install {wanted}{other}', name=package)


def _pip_name(package: str) -> str:
    return package.replace("_", "-")
