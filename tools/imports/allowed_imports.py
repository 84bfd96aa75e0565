"""A contract type for import-linter: modules import what a list names, and nothing else.

A list of what is forbidden says nothing of what nobody thought of. Only direct imports count, from inside
functions too; name every module whose imports matter as a source.
"""

import sys
from typing import Any, cast

import grimp
from importlinter import Contract, ContractCheck, fields, output


class AllowedImportsContract(Contract):
    """Every import of the sources (and of what is inside them) is of a source or of what is allowed.

    Options:
        source_modules: the modules whose imports are looked at, with all that is inside them.
        allowed_modules: what they may import; a package stands for all that is inside it.
        standard_library: whether they may import all of the standard library besides.
    """

    type_name = "allowed_imports"

    source_modules = fields.SetField(subfield=fields.StringField())
    allowed_modules = fields.SetField(subfield=fields.StringField())
    standard_library = fields.BooleanField(required=False, default=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Look at each import of each source."""
        sources = cast("set[str]", self.source_modules)
        allowed = sources | cast("set[str]", self.allowed_modules)
        if self.standard_library:
            allowed |= sys.stdlib_module_names
        found = [
            f"{importer} -> {imported} (l.{_line(graph, importer, imported)})"
            for source in sorted(sources)
            for importer in sorted({source, *graph.find_descendants(source)})
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not _is_inside(imported, allowed)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say which imports are not allowed."""
        output.print_error("Imports that are not on the list:", bold=False)
        output.new_line()
        for line in cast("list[str]", check.metadata["found"]):
            output.print_error(f"- {line}", bold=False)
        output.new_line()


def _is_inside(module: str, packages: set[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def _line(graph: grimp.ImportGraph, importer: str, imported: str) -> int:
    details: list[Any] = graph.get_import_details(importer=importer, imported=imported)
    return details[0]["line_number"]
