"""`stigmer completion`: the script that completes commands and options in a shell."""

import click


@click.command(epilog="Example: stigmer completion bash > ~/.local/share/bash-completion/completions/stigmer")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script for a shell."""
    from click.shell_completion import get_completion_class

    from stigmer_cli.errors import StigmerError
    from stigmer_cli.output import print_line

    script_class = get_completion_class(shell)
    if script_class is None:
        raise StigmerError(f"could not complete for {shell!r}: this version of click does not know it")
    root = context.find_root().command
    try:
        print_line(script_class(root, {}, "stigmer", "_STIGMER_COMPLETE").source())
    except RuntimeError as error:  # bash is missing or too old
        raise StigmerError(f"could not write the script for {shell}: {error}") from error
