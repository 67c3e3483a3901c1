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


def _missing(package: str, purpose: str, extra: str | None) -> ModuleNotFoundError:
    name = _pip_name(package)
    wanted = f'"deepvqe-hub[{extra}]"' if extra else name  # quoted, as brackets are a pattern to some shells
    # pesq is built from source; a machine without a compiler can have the others
    other = ' (no C compiler: "deepvqe-hub[mos]", all but PESQ)' if extra == "metrics" and package != "pesq" else ""
    return ModuleNotFoundError(f'{purpose} needs the package "{name}": pip install {wanted}{other}', name=package)


def _pip_name(package: str) -> str:
    return package.replace("_", "-")
