"""Write a bill of materials of the image that this runs in: SPDX 2.3 as JSON, to stdout.

    python3 sbom.py --wheels FOLDER --created SECONDS        all of it
    python3 sbom.py --onto FILE --add NAME=VERSION=LICENCE   what a later stage has added

Needs the standard library alone, as it runs before anything else is trusted to be there, and says the
same of the same image, byte by byte: the date is the caller's, the namespace comes of the contents.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

SUBJECT = "SPDXRef-Image"
"""The image itself, of which everything else is a part."""

DPKG = Path("/var/lib/dpkg/status")
APK = Path("/lib/apk/db/installed")
OS_RELEASE = Path("/etc/os-release")

NO_ASSERTION = "NOASSERTION"

_LICENCES = {
    "Apache": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""What authors wrote before there was a field for SPDX's own words (PEP 639), where it is clear."""

_PLAIN = frozenset(
    {
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "GPL-2.0-only",
        "GPL-2.0-or-later",
        "ISC",
        "MIT",
        "MPL-2.0",
        "PSF-2.0",
        "Zlib",
    }
)
"""Licences that are taken by their identifiers; SPDX allows no others than its own."""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """A part of the image.

    Attributes:
        purl: its package URL, which tells it from all others.
        name: as its own kind calls it.
        version: with all of what its kind has.
        licence: an SPDX expression, or ``NOASSERTION``.
        stated: what the package says of its licence where that is no expression.
        sha256: of the wheel that it was installed from; empty when that is not known.
    """

    purl: str
    name: str
    version: str
    licence: str = NO_ASSERTION
    stated: str = ""
    sha256: str = ""


def read_licence(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return the SPDX expression of a Python package, and what else it states.

    Args:
        metadata: in the form of PEP 566, ``importlib.metadata``'s ``json``.
    """
    if expression := metadata.get("license_expression"):
        return str(expression), ""
    stated = str(metadata.get("license") or "").strip()
    if (known := _known(stated)) is not None:
        return known, ""
    for classifier in metadata.get("classifier", ()):
        if (known := _known(classifier)) is not None:
            return known, ""
    # Some put the whole text there: its first line names it.
    return NO_ASSERTION, stated.splitlines()[0][:200] if stated else ""


def _known(words: str) -> str | None:
    return words if words in _PLAIN else _LICENCES.get(words)


def python_packages(wheels: Path | None) -> Iterator[Package]:
    """Yield the Python packages that this interpreter sees, and the interpreter."""
    version = platform.python_version()
    yield Package(f"pkg:generic/cpython@{version}", "cpython", version, "PSF-2.0")
    files = list(wheels.glob("*.whl")) if wheels else []
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        licence, stated = read_licence(found.metadata.json)
        wheel = find_wheel(files, name, found.version, found.read_text("WHEEL") or "")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if wheel else ""
        yield Package(
            f"pkg:pypi/{name}@{quote(found.version)}", name, found.version, licence, stated, digest
        )


def find_wheel(files: Iterable[Path], name: str, version: str, wheel_file: str) -> Path | None:
    """Return the wheel that a package was installed from, by name, version and platform.

    Args:
        files: the wheels to choose from.
        name: of the package, normalized.
        version: of the package.
        wheel_file: the text of its ``WHEEL`` (binary distribution format of PyPA).
    """
    tags = {line.removeprefix("Tag: ").strip() for line in wheel_file.splitlines()}
    for file in sorted(files):
        parts = file.stem.split("-")
        if re.sub(r"[-_.]+", "-", parts[0]).lower() != name or parts[1] != version:
            continue
        # A name may compress several: py2.py3-none-any.
        names = itertools.product(*(part.split(".") for part in parts[-3:]))
        if tags & {"-".join(words) for words in names}:
            return file
    return None


def dpkg_packages(status: str, distribution: Mapping[str, str]) -> Iterator[Package]:
    """Yield the packages of dpkg's ``status``."""
    vendor = distribution.get("ID", "debian")
    suffix = f"{vendor}-{distribution.get('VERSION_ID', 'unknown')}"
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            where = f"arch={fields.get('Architecture', 'all')}&distro={quote(suffix)}"
            yield Package(
                f"pkg:deb/{vendor}/{quote(name)}@{quote(version, safe='')}?{where}", name, version
            )


def apk_packages(installed: str, distribution: Mapping[str, str]) -> Iterator[Package]:
    """Yield the packages of apk's ``installed``."""
    suffix = f"alpine-{distribution.get('VERSION_ID', 'unknown')}"
    for paragraph in installed.split("\n\n"):
        fields = dict(re.findall(r"^([PVAL]):(.*)$", paragraph, re.MULTILINE))
        if {"P", "V"} <= fields.keys():
            name, version, stated = fields["P"], fields["V"], fields.get("L", "")
            licence = _known(stated)
            where = f"arch={fields.get('A', 'noarch')}&distro={quote(suffix)}"
            yield Package(
                f"pkg:apk/alpine/{quote(name)}@{quote(version, safe='')}?{where}",
                name,
                version,
                licence or NO_ASSERTION,
                "" if licence else stated,
            )


def read_os_release(text: str) -> dict[str, str]:
    """Return the fields of an os-release file."""
    lines = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, _, value in lines if value}


def make_document(packages: Iterable[Package], created_s: int) -> dict[str, Any]:
    """Return the SPDX document of an image.

    Args:
        packages: in any order; what is there twice is named once.
        created_s: the date to give it, in seconds since the epoch.
    """
    entries = [_entry(package) for package in sorted(set(packages))]
    subject = {
        "SPDXID": SUBJECT,
        "name": "kos/agent-base",
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
        "primaryPackagePurpose": "CONTAINER",
    }
    return _sealed([subject, *entries], created_s)


def add_packages(document: Mapping[str, Any], packages: Iterable[Package]) -> dict[str, Any]:
    """Return a document of `make_document` with more packages, as if they had been there."""
    subject, *entries = document["packages"]
    by_id = {entry["SPDXID"]: entry for entry in [*entries, *map(_entry, packages)]}
    created = datetime.fromisoformat(document["creationInfo"]["created"])
    ordered = sorted(by_id.values(), key=_purl)
    return _sealed([subject, *ordered], int(created.timestamp()))


def _purl(entry: Mapping[str, Any]) -> str:
    return str(entry["externalRefs"][0]["referenceLocator"])


def _entry(package: Package) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", package.purl.removeprefix("pkg:")),
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": package.licence,
        "copyrightText": NO_ASSERTION,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl,
            }
        ],
    }
    if package.stated:
        entry["licenseComments"] = f"stated by the package: {package.stated}"
    if package.sha256:
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": package.sha256}]
    return entry


def _sealed(packages: list[dict[str, Any]], created_s: int) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    created = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    described = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": SUBJECT,
    }
    contained = [
        {
            "spdxElementId": SUBJECT,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": package["SPDXID"],
        }
        for package in packages[1:]
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "kos/agent-base",
        # Never fetched: an address that no other document has (SPDX 2.3, 6.5).
        "documentNamespace": f"https://spdx.org/spdxdocs/kos-agent-base-{digest}",
        "creationInfo": {"created": created, "creators": ["Tool: kagent-sdk-sbom"]},
        "packages": packages,
        "relationships": [described, *contained],
    }


def read_addition(words: str) -> Package:
    """Return the package that ``NAME=VERSION=LICENCE`` names; npm is its own kind."""
    name, version, licence = words.split("=")
    kind = "npm" if name == "npm" else "generic"
    return Package(f"pkg:{kind}/{quote(name)}@{quote(version)}", name, version, licence)


def _image_packages(wheels: Path | None) -> Iterator[Package]:
    release = read_os_release(OS_RELEASE.read_text()) if OS_RELEASE.exists() else {}
    yield from python_packages(wheels)
    if DPKG.exists():
        yield from dpkg_packages(DPKG.read_text(), release)
    if APK.exists():
        yield from apk_packages(APK.read_text(), release)


def main(words: Sequence[str]) -> str:
    """Return the document that the command line asks for, as text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--created", type=int, default=0)
    parser.add_argument("--onto", type=Path)
    parser.add_argument("--add", type=read_addition, action="append", default=[])
    arguments = parser.parse_args(words)
    if arguments.onto:
        document = add_packages(json.loads(arguments.onto.read_text()), arguments.add)
    else:
        packages = itertools.chain(_image_packages(arguments.wheels), arguments.add)
        document = make_document(packages, arguments.created)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
