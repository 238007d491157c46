"""The command nextok-export.

Knows options, the terminal and exit codes. Everything else is `nextok_export.export`.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

_EPILOG = (
    "Exit codes: 0 the artifact is written; 2 an option or a path cannot be worked with; "
    "3 the checkpoint is not supported; 4 the certificate failed; 5 a file could not be written. "
    "Whatever is not 0 leaves no artifact."
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=_EPILOG)
def run(
    model: Annotated[
        str, typer.Argument(help="demo (bundled), a checkpoint's folder, or a hub id.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write; absent or empty.")],
    precision: Annotated[
        str, typer.Option(help="How weights are stored: fp32, int8 or int4.")
    ] = "int8",
    block_size: Annotated[
        int | None,
        typer.Option(
            help="Weights that share one scale: 16, 32, 64, 128 or 256; at int8 also 0, all "
            "weights of an output. nextok's operators have 0 at int8 and 32 at int4.",
            show_default="by precision and width",
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="What keys and values are kept in: float32 or int8, a quarter of the memory.",
            show_default="by precision and width",
        ),
    ] = None,
    operators: Annotated[
        str | None,
        typer.Option(
            help="Whose operators the graph is made of: nextok, the fast kernels of "
            "nextok-kernels, or onnxruntime, which needs nothing else.",
            show_default="by precision and width",
        ),
    ] = None,
    keep_reference: Annotated[
        bool, typer.Option("--keep-reference", help="Keep optimum's graph, as reference.onnx.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The model's name.", show_default="that of MODEL")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact that is at OUT already.")
    ] = False,
) -> None:
    """Turn a GPT-2 checkpoint into an artifact that nextok-server serves.

    The graph is measured against the checkpoint before anything is written.
    """
    # Here, not above: the help and a mistyped option need not wait for torch.
    from nextok_export import ExportError, Report, export

    try:
        export(
            model,
            out,
            precision=precision,
            block_size=block_size,
            cache=cache,
            operators=operators,
            keep_reference=keep_reference,
            name=name,
            force=force,
            report=Report(Console()),
        )
    except ExportError as error:
        Console(stderr=True).print(
            f"[red]nextok-export:[/] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(error.exit_code) from None


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
