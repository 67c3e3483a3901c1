"""The page itself, in Gradio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepvqe_hub._optional import need
from deepvqe_hub.demo.studio import NO_LIMIT_DB, Studio

if TYPE_CHECKING:
    import gradio as gr
else:
    gr = need("gradio", "the demo", "demo")

KEEP_SECONDS = 3600  # after which uploads and results are deleted

_INTRO = """# DeepVQE: noise, reverberation and echo out of speech

Upload or record up to {seconds:g} seconds. With an echo-cancelling model, add what the loudspeaker played meanwhile.
Recordings are processed where this page comes from and deleted within two hours.
"""


def build(studio: Studio | None = None, examples: Sequence[str | os.PathLike[str]] = ()) -> gr.Blocks:
    """The demo as a Gradio app, to be put into another one; by itself `launch` shows it.

    Args:
        studio: models and limits, by default all models with weights.
        examples: sound files to click on.

    Returns:
        `gradio.Blocks`, with one function for programs, `/enhance`.
    """
    studio = studio or Studio()

    def enhance(noisy, farend, model, mix, attenuation):
        try:
            take = studio.enhance(noisy, farend, model, mix, attenuation)
        except (ValueError, ImportError) as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error
        return (take.sample_rate, take.audio), take.picture, take.report

    with gr.Blocks(title="DeepVQE", analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as page:
        gr.Markdown(_INTRO.format(seconds=studio.max_seconds))
        with gr.Row():
            with gr.Column():
                file = {"type": "filepath", "buttons": ["download"]}
                noisy = gr.Audio(
                    sources=["upload", "microphone"], label="Microphone (before)", elem_id="before", **file
                )
                farend = gr.Audio(sources=["upload"], label="Loudspeaker (far end), optional", elem_id="farend", **file)
                model = gr.Dropdown(studio.models, value=studio.models[0], label="Model")
                mix = gr.Slider(0, 1, 1, step=0.05, label="Mix: 1 enhanced, 0 as it was")
                limit = gr.Slider(
                    0, NO_LIMIT_DB, NO_LIMIT_DB, step=1, label=f"Take away at most, dB ({NO_LIMIT_DB}: no limit)"
                )
                button = gr.Button("Enhance", variant="primary", elem_id="enhance")
            with gr.Column():
                after = gr.Audio(label="After", interactive=False, format="wav", buttons=["download"], elem_id="after")
                picture = gr.Image(
                    show_label=False, interactive=False, buttons=["fullscreen", "download"], elem_id="spectrograms"
                )
                report = gr.Markdown(elem_id="report")
        if examples:
            gr.Examples([[os.fspath(path)] for path in examples], [noisy], cache_examples=False)
        button.click(enhance, [noisy, farend, model, mix, limit], [after, picture, report], api_name="enhance")
    return page


def launch(studio: Studio | None = None, examples: Sequence[str | os.PathLike[str]] = (), **options: Any) -> gr.Blocks:
    """Show the demo in the browser, with uploads of at most 100 MB; returns when it is stopped.

    Args:
        studio, examples: as for `build`.
        **options: of `gradio.Blocks.launch`, in the place of what is set here, such as `server_port`. With
            `prevent_thread_lock=True` it returns at once.

    Returns:
        The page, of which `close()` ends the server.

    Raises:
        OSError: the port, or each that Gradio tries, is taken.
    """
    page = build(studio, examples)
    settings = {
        # Fonts of the system, as no page of another server should be asked.
        "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        "max_file_size": "100mb",  # larger ones are refused before they are sent
        "ssr_mode": False,
        "footer_links": ["api", "gradio"],
        "run_history": False,
    }
    page.launch(**settings | options)
    return page
