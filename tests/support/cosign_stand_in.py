"""Stands in for the program `cosign`, where the public Sigstore cannot be reached: signs with a local one.

Understands the calls of `stigmer_release.signing`, and attaches what it signs as cosign 3 does. It is told by
LOCAL_SIGSTORE (directory), LOCAL_WORKFLOW (identity), LOCAL_SOURCE (URL), LOCAL_COMMIT and the login.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from local_sigstore import BUNDLE_TYPE, LocalSigstore, Workflow, statement
from stigmer_release.registry import open_repository

PREDICATES = {
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "cyclonedx": "https://cyclonedx.org/bom",
}
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"


def main() -> int:
    """Signs one statement and attaches it."""
    parser = argparse.ArgumentParser(prog="cosign")
    commands = parser.add_subparsers(dest="command", required=True)
    login = commands.add_parser("login")
    login.add_argument("--username")
    login.add_argument("--password-stdin", action="store_true")
    login.add_argument("registry")
    for name in ("sign", "attest"):
        command = commands.add_parser(name)
        command.add_argument("--yes", action="store_true", required=True)
        command.add_argument("reference")
    commands.choices["attest"].add_argument("--type", choices=PREDICATES, required=True)
    commands.choices["attest"].add_argument("--predicate", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "login":
        return 0
    name, _, digest = str(arguments.reference).partition("@")
    if arguments.command == "sign":
        stated = statement(digest, SIGNATURE, {})
    else:
        stated = statement(
            digest, PREDICATES[arguments.type], json.loads(arguments.predicate.read_text("utf-8"))
        )
    told = os.environ
    workflow = Workflow(told["LOCAL_WORKFLOW"], told["LOCAL_SOURCE"], told["LOCAL_COMMIT"])
    bundle = LocalSigstore(Path(told["LOCAL_SIGSTORE"])).sign(stated, workflow)
    with open_repository(name, (told["REGISTRY_USER"], told["REGISTRY_PASSWORD"])) as repository:
        image = repository.manifest(digest)
        if image is None:
            print(f"Error: {arguments.reference} is not there", file=sys.stderr)
            return 1
        repository.attach(image, bundle, BUNDLE_TYPE, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
