"""`stigmer completion`: the script that completes commands and options in a shell.

The scripts speak click's protocol (click 8.3, `click.shell_completion`), and differ from click's own in that
paths and names are completed side by side, and in that nothing is written over the line that a person types.
"""

from typing import Final

import click

_BASH: Final = """\
_stigmer_completion() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir)
                compopt -o filenames
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$value") ;;
            file)
                compopt -o filenames
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(IFS=$'\\n'; COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _STIGMER_COMPLETE=bash_complete "$1" 2> /dev/null)
}

complete -o nosort -F _stigmer_completion stigmer
"""

_ZSH: Final = """\
#compdef stigmer

_stigmer_completion() {
    local -a names described response
    local type key descr
    (( ! $+commands[stigmer] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        _STIGMER_COMPLETE=zsh_complete stigmer 2> /dev/null)}")
    for type key descr in ${response}; do
        case $type in
            plain)
                if [[ "$descr" == "_" ]]; then names+=("$key"); else described+=("$key":"$descr"); fi ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#names )) && compadd -U -V unsorted -a names
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _stigmer_completion "$@"
else
    compdef _stigmer_completion stigmer
fi
"""

_FISH: Final = """\
function _stigmer_completion
    set -l response (env _STIGMER_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=(commandline -t) stigmer 2> /dev/null)
    for completion in $response
        set -l parts (string split -m 1 "," -- $completion)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                echo $parts[2]
        end
    end
end

complete --no-files --keep-order --command stigmer --arguments "(_stigmer_completion)"
"""

_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command(epilog="Example: stigmer completion bash > ~/.local/share/bash-completion/completions/stigmer")
@click.argument("shell", type=click.Choice(list(_SCRIPTS)))
def completion(shell: str) -> None:
    """Print a completion script for a shell.

    It completes commands, options and paths, and, where a server runs, agents, sessions, executions, secrets
    and tokens. bash needs to be 4.4 or newer.
    """
    from stigmer_cli.output import write_stdout

    write_stdout(_SCRIPTS[shell])
