"""The bill of materials of an image: what a scanner reads to say which flaws it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.images import sbom
from scripts.images.sbom import (
    NO_ASSERTION,
    Package,
    add_packages,
    apk_packages,
    dpkg_packages,
    find_wheel,
    main,
    make_document,
    python_packages,
    read_addition,
    read_licence,
    read_os_release,
)

DEBIAN = {"ID": "debian", "VERSION_ID": "12"}
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u14
Description: GNU C Library
 with a second line

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""
INSTALLED = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:odd\nV:1\nL:custom\n\nF:etc\n"

AIOHTTP = Package("pkg:pypi/aiohttp@3.14.5", "aiohttp", "3.14.5", "Apache-2.0", sha256="ab" * 32)
LIBC = Package("pkg:deb/debian/libc6@2.36?arch=amd64", "libc6", "2.36", stated="GPL, mostly")


def check_spdx(document: dict[str, Any]) -> None:
    """Hold a document against what SPDX 2.3 asks of one (its chapters 6, 7 and 11)."""
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert re.fullmatch(r"https://[^#\s]+", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert all(
        re.match(r"(Tool|Person|Organization): ", who)
        for who in document["creationInfo"]["creators"]
    )
    ids = [package["SPDXID"] for package in document["packages"]]
    assert len(set(ids)) == len(ids)
    for package in document["packages"]:
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package["SPDXID"])
        assert package["name"]
        assert package["filesAnalyzed"] is False
        for key in ("downloadLocation", "licenseConcluded", "licenseDeclared", "copyrightText"):
            assert package[key]
        for checksum in package.get("checksums", ()):
            assert checksum["algorithm"] == "SHA256"
            assert re.fullmatch("[0-9a-f]{64}", checksum["checksumValue"])
    ends = {"SPDXRef-DOCUMENT", *ids}
    for relationship in document["relationships"]:
        assert {relationship["spdxElementId"], relationship["relatedSpdxElement"]} <= ends
    described = [r for r in document["relationships"] if r["relationshipType"] == "DESCRIBES"]
    assert [r["relatedSpdxElement"] for r in described] == ["SPDXRef-Image"]


def test_a_document_has_what_spdx_asks_for() -> None:
    """Another's scanner must read it, not only we."""
    document = make_document([LIBC, AIOHTTP], 1_700_000_000)

    check_spdx(document)
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert [package["name"] for package in document["packages"]] == [
        "kos/agent-base",
        "libc6",
        "aiohttp",
    ]
    assert document["packages"][1]["licenseComments"] == "stated by the package: GPL, mostly"
    assert document["packages"][2]["checksums"][0]["checksumValue"] == "ab" * 32


def test_the_same_packages_make_the_same_document_in_any_order() -> None:
    """An image that is built twice has one digest."""
    assert make_document([LIBC, AIOHTTP], 1) == make_document([AIOHTTP, LIBC, AIOHTTP], 1)


def test_other_packages_are_another_document() -> None:
    """The namespace names a document: two with one name would be one to those who collect them."""
    first = make_document([LIBC], 1)["documentNamespace"]

    assert make_document([AIOHTTP], 1)["documentNamespace"] != first


def test_packages_that_a_later_stage_adds_are_named_as_if_they_had_been_there() -> None:
    """The target node is debian-slim with Node.js: one bill names all of it."""
    node = read_addition("nodejs=24.1.0=MIT")
    npm = read_addition("npm=11.0.0=Artistic-2.0")

    added = add_packages(make_document([LIBC], 7), [npm, node])

    check_spdx(added)
    assert added == make_document([LIBC, node, npm], 7)
    assert [package.purl for package in (node, npm)] == [
        "pkg:generic/nodejs@24.1.0",
        "pkg:npm/npm@11.0.0",
    ]


def test_what_dpkg_has_installed_is_named_and_what_it_has_removed_is_not() -> None:
    """A package of which only the configuration is left has no flaws any more."""
    assert list(dpkg_packages(STATUS, DEBIAN)) == [
        Package(
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12",
            "libc6",
            "2.36-9+deb12u14",
        )
    ]


def test_what_apk_has_installed_is_named_with_its_licence() -> None:
    """Alpine's names of licences are SPDX's for the most part; others are comments."""
    musl, odd = apk_packages(INSTALLED, {"VERSION_ID": "3.22.1"})

    assert musl.purl == "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.22.1"
    assert (musl.licence, musl.stated) == ("MIT", "")
    assert (odd.licence, odd.stated) == (NO_ASSERTION, "custom")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license_expression": "MIT AND Python-2.0"}, ("MIT AND Python-2.0", "")),
        ({"license": "BSD-3-Clause"}, ("BSD-3-Clause", "")),
        ({"license": "Apache 2"}, ("Apache-2.0", "")),
        (
            {"license": "new BSD", "classifier": ["License :: OSI Approved :: MIT License"]},
            ("MIT", ""),
        ),
        ({"license": "Some words\nand more"}, (NO_ASSERTION, "Some words")),
        ({}, (NO_ASSERTION, "")),
    ],
)
def test_a_licence_is_named_where_it_is_clear(
    metadata: dict[str, Any], expected: tuple[str, str]
) -> None:
    """A guess in a bill of materials is worse than none: lawyers read it."""
    assert read_licence(metadata) == expected


def test_the_wheel_of_a_package_is_that_of_its_platform(tmp_path: Path) -> None:
    """A folder of wheels may have the same package for glibc and for musl."""
    glibc = tmp_path / "google_re2-1.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
    musl = tmp_path / "google_re2-1.1-cp311-cp311-musllinux_1_2_x86_64.whl"
    other = tmp_path / "google_re2-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"
    files = [glibc, musl, other]

    assert find_wheel(files, "google-re2", "1.1", "Tag: cp311-cp311-manylinux_2_28_x86_64") == glibc
    assert find_wheel(files, "google-re2", "1.1", "Tag: cp311-cp311-musllinux_1_2_x86_64") == musl
    assert find_wheel(files, "google-re2", "1.2", "Tag: cp311-cp311-musllinux_1_2_x86_64") is None


def test_the_packages_of_this_interpreter_are_found() -> None:
    """What is installed is asked of the interpreter that has to import it."""
    found = {package.name: package for package in python_packages(None)}

    assert found["pydantic"].licence == "MIT"
    assert found["cpython"].purl.startswith("pkg:generic/cpython@3.")


def test_os_release_is_read_without_its_quotes() -> None:
    """Names of packages carry the distribution."""
    assert read_os_release('ID=debian\nVERSION_ID="12"\n\nNAME=\n') == DEBIAN


def test_the_command_writes_a_document_and_adds_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the images' build calls it: twice for node."""
    for name, text in (("DPKG", STATUS), ("APK", INSTALLED), ("OS_RELEASE", "ID=debian\n")):
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setattr(sbom, name, path)
    file = tmp_path / "sbom.json"

    file.write_text(main(["--created", "5", "--wheels", str(tmp_path)]))
    first = json.loads(file.read_text())
    second = json.loads(main(["--onto", str(file), "--add", "nodejs=24.1.0=MIT"]))

    check_spdx(first)
    check_spdx(second)
    names = {package["name"] for package in first["packages"]}
    assert {"libc6", "musl", "cpython"} <= names
    assert {package["name"] for package in second["packages"]} == names | {"nodejs"}
