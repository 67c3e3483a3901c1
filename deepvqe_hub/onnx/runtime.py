"""One call of an exported graph in onnxruntime, its states bound once."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from deepvqe_hub._optional import need
from deepvqe_hub.limits import MAX_THREADS
from deepvqe_hub.onnx.description import read_info, signal_inputs


class Step:
    """One call of a graph: fill `inputs`, call, read `output`. States stay in memory bound once.

    Args:
        graph: an exported file, or its bytes.
        threads: of onnxruntime.
        providers: onnxruntime's execution providers, best first; None is the CPU.
    """

    def __init__(self, graph: str | os.PathLike[str] | bytes, threads: int = 1, providers: Sequence | None = None):
        graph = graph if isinstance(graph, bytes) else os.fspath(graph)
        name = "the graph" if isinstance(graph, bytes) else graph
        providers = [providers] if isinstance(providers, str) else list(providers or ["CPUExecutionProvider"])
        self.session = _session(graph, name, threads, providers)
        self.info = read_info(self.session, name)
        self.graph = graph if isinstance(graph, bytes) else os.path.abspath(graph)  # to open it again from elsewhere
        self._options = threads, providers
        self._bind()

    def another(self) -> Step:
        """One with inputs, output and states of its own in the same session, which several threads may run at once."""
        step = Step.__new__(Step)
        vars(step).update(vars(self))
        step._bind()
        return step

    def _bind(self) -> None:
        """Allocate inputs, output and states, and bind the session to them."""
        from onnxruntime import OrtValue

        wrap = OrtValue.ortvalue_from_numpy  # shares the array's memory
        names = signal_inputs(self.info["farend"])
        shapes = {x.name: tuple(x.shape) for x in self.session.get_inputs()}
        self.inputs = [np.zeros(shapes[name], np.float32) for name in names]
        self.output = np.zeros_like(self.inputs[0])
        # Two copies of each state, of which calls read and write in turn; a state may say that one will do.
        self._states, self._turn = [], 0
        self._bindings = [self.session.io_binding(), self.session.io_binding()]
        for binding in self._bindings:
            for name, array in zip(names, self.inputs, strict=True):
                binding.bind_ortvalue_input(name, wrap(array))
            binding.bind_ortvalue_output("enhanced", wrap(self.output))
        for state in self.info["states"]:
            pair = [np.zeros(state["shape"], state["dtype"]) for _ in range(1 if state["in_place"] else 2)]
            values = [wrap(array) for array in pair] * (3 - len(pair))
            for turn, binding in enumerate(self._bindings):
                binding.bind_ortvalue_input(state["name"], values[turn])
                binding.bind_ortvalue_output(state["output"], values[1 - turn])
            self._states.append((state["name"], pair))

    def __call__(self) -> np.ndarray:
        self.session.run_with_iobinding(self._bindings[self._turn])
        self._turn ^= 1
        return self.output

    def __getstate__(self):  # a session cannot be copied, but opened again
        return self.graph, self._options, self._turn, self._states

    def __setstate__(self, state):
        graph, options, turn, states = state
        self.__init__(graph, *options)
        self._turn = turn
        for (_, pair), (_, saved) in zip(self._states, states, strict=True):
            for array, value in zip(pair, saved, strict=True):
                array[...] = value

    def reset(self) -> None:
        for _, pair in self._states:
            for array in pair:
                array.fill(0)

    def set_state(self, name: str, value: np.ndarray) -> None:
        """Overwrite what the next call reads as state `name`."""
        pair = dict(self._states)[name]
        pair[self._turn % len(pair)][...] = value


def _session(graph: str | bytes, name: str, threads: int, providers: list):
    """A session of onnxruntime on the file at `graph`, or on its bytes; arguments as for `Step`.

    Args:
        name: what to call the graph in an error.

    Raises:
        ImportError: without onnxruntime.
        FileNotFoundError: no such file.
        ValueError: threads out of range, an unknown provider, or what onnxruntime cannot open.
    """
    ort = need("onnxruntime", "running ONNX graphs", "onnx")
    if isinstance(graph, str) and not os.path.isfile(graph):
        raise FileNotFoundError(f"there is no file {name}; make one with: deepvqe export MODEL {name}")
    if not (isinstance(threads, int) and 1 <= threads <= MAX_THREADS):
        raise ValueError(f"threads must be a whole number from 1 to {MAX_THREADS}, not {threads!r}")
    _check_providers(providers, ort.get_available_providers())
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each of its error codes, and no common one
        raise ValueError(f"onnxruntime cannot open {name}: {error}") from error


def _check_providers(providers: list, there: list[str]) -> None:
    """Raise ValueError for a provider that is not there; onnxruntime would take the CPU."""
    for provider in providers:
        name = provider if isinstance(provider, str) else provider[0]  # or (name, its options)
        if name not in there:
            raise ValueError(f"this onnxruntime has no provider {name}; it has {', '.join(there)}")
