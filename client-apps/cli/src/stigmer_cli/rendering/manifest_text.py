"""A manifest as YAML that can be applied again: no defaults, texts of several lines as blocks."""

import yaml

from stigmer_contract.manifest import AgentManifest


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(  # pyright: ignore[reportUnknownMemberType] - untyped in types-pyyaml
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _represent_text)


def format_manifest(manifest: AgentManifest) -> str:
    """The YAML document, its fields in the format's order."""
    document = manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    assert isinstance(text, str)
    return text
