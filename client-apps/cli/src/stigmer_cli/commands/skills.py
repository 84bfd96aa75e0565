"""`stigmer skills`: checks and packs skills by the open standard, and shows those of an agent."""

from pathlib import Path

import click

from stigmer_cli.commands.completions import complete_directories, complete_files, complete_runnable


@click.group()
def skills() -> None:
    """List, check and pack skills."""


@skills.command("list", epilog="Example: stigmer skills list ./report-writer")
@click.argument("agent", shell_complete=complete_runnable)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_skills(agent: str, as_json: bool) -> None:
    """List the skills of an agent: a manifest, its folder, or the name of an applied one."""
    from stigmer_cli.commands.agent_packs import pack_agents
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.manifest_files import names_a_path, read_agent
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.tables import print_table

    if names_a_path(agent):
        [packed] = pack_agents([read_agent(agent)])
        found = packed.manifest.spec.skills
    else:
        with open_client() as client:
            found = client.get_agent(agent).manifest.spec.skills
    if as_json:
        print_json([skill.model_dump(mode="json", by_alias=True, exclude_none=True) for skill in found])
        return
    rows = [[skill.name or "", (skill.pack or "")[:19], skill.description or ""] for skill in found]
    print_table(["NAME", "PACK", "DESCRIPTION"], rows, long="DESCRIPTION", empty="the agent has no skills")


@skills.command(epilog="Example: stigmer skills validate skills/house-style")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", shell_complete=complete_directories)
@click.option("--json", "as_json", is_flag=True, help="Print the skills as JSON.")
def validate(folders: tuple[str, ...], as_json: bool) -> None:
    """Check skills; each problem is told with file, line, column and field."""
    from stigmer_cli.commands.packed_files import FilesRefused
    from stigmer_cli.commands.skill_packs import pack_skill
    from stigmer_cli.errors import ManifestInvalid
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_cli.rendering.quantities import plural

    good: list[dict[str, object]] = []
    wrong = 0
    for folder in folders:
        try:
            packed = pack_skill(Path(folder))
            if packed.notes:
                raise FilesRefused("\n".join(["not by the standard:", *map(str, packed.notes)]))
        except FilesRefused as error:
            wrong += 1
            print_note(f"{folder}: {error}")
            continue
        good.append({"name": packed.name, "folder": folder, "files": packed.files, "pack": packed.reference})
        if packed.allowed_tools:
            print_note(f"note: {folder}: allowed-tools grants nothing: the manifest decides")
        if not as_json:
            print_line(f"{folder}: skill {packed.name} is valid ({plural(packed.files, 'file')})")
    if as_json:
        print_json(good)
    if wrong:
        raise ManifestInvalid(f"{plural(wrong, 'folder')} of {len(folders)} cannot be used as a skill")


@skills.command(epilog="Example: stigmer skills pack skills/house-style -o house-style.tar")
@click.argument("folder", shell_complete=complete_directories)
@click.option("-o", "--output", metavar="FILE", help="Write the pack.", shell_complete=complete_files)
def pack(folder: str, output: str | None) -> None:
    """Pack a skill, and print what names its content: the same files give the same name everywhere."""
    from stigmer_cli.commands.packed_files import FilesRefused
    from stigmer_cli.commands.skill_packs import pack_skill
    from stigmer_cli.errors import ManifestInvalid, StigmerError
    from stigmer_cli.output import print_line, print_note

    try:
        packed = pack_skill(Path(folder))
    except FilesRefused as error:
        print_note(f"{folder}: {error}")
        raise ManifestInvalid(f"{folder!r} cannot be used as a skill") from error
    if output is not None:
        try:
            Path(output).write_bytes(packed.pack)
        except OSError as error:
            raise StigmerError(f"could not write {output!r}: {error.strerror}") from error
    print_line(packed.reference)
