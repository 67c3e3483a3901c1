"""Audio of any rate, layout and format through a model: arrays with :func:`enhance`, files with :func:`enhance_file`.

Both go through the model's stream block by block, so an hour of audio takes no more memory than a minute, and both give
back exactly as many samples as they took, aligned with them.
"""

from deepvqe_hub.files.arrays import enhance
from deepvqe_hub.files.audio import AudioFileError
from deepvqe_hub.files.disk import enhance_file

__all__ = ["AudioFileError", "enhance", "enhance_file"]
