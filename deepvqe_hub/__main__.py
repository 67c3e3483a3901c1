"""`python -m deepvqe_hub` is `deepvqe`."""

import sys

from deepvqe_hub.cli import main

sys.exit(main())
