"""What the manifest's models say of a field: its name, its description, its choices, what stands in it."""

import re
import types
from collections.abc import Iterator
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stigmer_contract.manifest import AgentManifest
from stigmer_contract.yaml_problems import FieldPath


def field_names(path: FieldPath) -> list[str]:
    """The fields of the mapping at a path, as a person spells them; none where any key may stand."""
    model = _model_in(_annotation_at(path))
    return [_alias(name, field) for name, field in model.model_fields.items()] if model else []


def _annotation_at(path: FieldPath) -> object:
    annotation: object = AgentManifest
    for part in path:
        model = _model_in(annotation)
        if model and isinstance(part, str):
            fields = {_alias(name, field): field for name, field in model.model_fields.items()}
            annotation = fields[part].annotation if part in fields else None
        else:
            arguments = get_args(_without_none(annotation))
            annotation = arguments[-1] if arguments else None
    return annotation


def _without_none(annotation: object) -> object:
    """Of `Annotated` the type, of `X | None` the X."""
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [argument for argument in get_args(annotation) if argument is not types.NoneType]
        return _without_none(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _model_in(annotation: object) -> type[BaseModel] | None:
    annotation = _without_none(annotation)
    candidates = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else (annotation,)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _field_at(path: FieldPath) -> FieldInfo | None:
    model = _model_in(_annotation_at(path[:-1])) if path else None
    fields = {_alias(name, field): field for name, field in model.model_fields.items()} if model else {}
    return fields.get(str(path[-1])) if path else None


def describe_field(path: FieldPath) -> str | None:
    """The first line of a field's documentation, without its full stop."""
    field = _field_at(path)
    return field.description.splitlines()[0].rstrip(".") if field and field.description else None


def field_choices(path: FieldPath) -> list[str]:
    """The texts that a field accepts; empty where it accepts any."""
    annotation = _without_none(_annotation_at(path))
    return [choice for choice in get_args(annotation) if isinstance(choice, str)]


def find_fields(folded_name: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the mappings' fields with that name, outermost first."""
    names = field_names(path)
    yield from ((*path, name) for name in names if fold_name(name) == folded_name)
    for name in names:
        if get_origin(_without_none(_annotation_at((*path, name)))) is None:
            yield from find_fields(folded_name, (*path, name))


def fold_name(name: str) -> str:
    """The name without what people confuse: case, hyphens, underscores."""
    return re.sub(r"[-_\s]", "", name).lower()
