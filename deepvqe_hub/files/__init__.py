"""Audio of any rate, layout and format through a model: arrays with `enhance`, files with `enhance_file`.

Both go through the model's stream block by block, so an hour of audio takes no more memory than a minute, and both give
back exactly as many samples as they took, aligned with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepvqe_hub._lazy import lazy

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub.files.arrays import enhance as enhance
    from deepvqe_hub.files.audio import AudioFileError as AudioFileError
    from deepvqe_hub.files.disk import enhance_file as enhance_file

# Enhancing needs torch, reading a sound file does not.
_EXPORTS = {
    "AudioFileError": "deepvqe_hub.files.audio",
    "enhance": "deepvqe_hub.files.arrays",
    "enhance_file": "deepvqe_hub.files.disk",
}

__all__ = ["AudioFileError", "enhance", "enhance_file"]
__getattr__ = lazy(__name__, _EXPORTS)
