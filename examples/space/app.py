"""The demo as a Hugging Face Space. Sound files beside this one are offered as examples."""

from pathlib import Path

from deepvqe_hub.demo import launch

if __name__ == "__main__":
    launch(examples=sorted(Path(__file__).parent.glob("*.wav")))
