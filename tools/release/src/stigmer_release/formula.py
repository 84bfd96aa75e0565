"""The Homebrew formula of a release, for a tap: it installs exactly the locked packages, by their hashes."""

import hashlib
from pathlib import Path
from string import Template
from typing import Final

from stigmer_release.errors import TreeUnfit
from stigmer_release.versions import Version

RELEASES: Final = "https://github.com/stigmer/stigmer/releases/download"
_FORMULA: Final = Template("""\
# Rendered by `python -m stigmer_release formula`; changes here are lost.
class Stigmer < Formula
  desc "Runs AI agents that finish"
  homepage "https://github.com/stigmer/stigmer"
  url "$url/$archive"
  sha256 "$archive_sha256"
  license "Apache-2.0"

  depends_on "uv" => :build
  depends_on "python@3.13"

  resource "requirements" do
    url "$url/$requirements"
    sha256 "$requirements_sha256"
  end

  def install
    python = Formula["python@3.13"].opt_bin/"python3.13"
    resource("requirements").stage do
      system "uv", "venv", "--python", python, libexec
      system "uv", "pip", "install", "--python", libexec/"bin/python", "--require-hashes",
             "--requirements", "$requirements"
    end
    bin.install_symlink libexec/"bin/stigmer"
    generate_completions_from_executable(bin/"stigmer", "completion")
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/stigmer version")
    system bin/"stigmer", "init", "agent"
    system bin/"stigmer", "validate", "-f", "agent"
  end
end
""")


def render_formula(version: Version, packages: Path, requirements: Path) -> str:
    """The formula, as Ruby.

    Raises:
        TreeUnfit: the source archive is not there.
    """
    archive = packages / f"stigmer_agents-{version.of_package}.tar.gz"
    if not archive.exists():
        raise TreeUnfit(f"there is no {archive}")
    return _FORMULA.substitute(
        url=f"{RELEASES}/{version.git_tag}",
        archive=archive.name,
        archive_sha256=_sha256(archive),
        requirements=requirements.name,
        requirements_sha256=_sha256(requirements),
    )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
