# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables in the eyes of ACPICA: they disassemble, and what comes out compiles again."""

import re
import subprocess

import pytest


def iasl(*args, cwd):
    done = subprocess.run(
        ["iasl", *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "Error" not in done.stdout.replace("0 Errors", ""), done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tables(root, tmp_path_factory):
    """{table: its disassembly}, of a machine with all that can be announced."""
    where = tmp_path_factory.mktemp("acpi")
    subprocess.run(
        [root / "build/tests/unit/boot/test_acpi", "dump", where], check=True, capture_output=True
    )
    sources = {}
    for table in where.glob("*.dat"):
        iasl("-d", table.name, cwd=where)
        sources[table.stem] = table.with_suffix(".dsl").read_text()
    return where, sources


def test_all_disassemble(tables):
    _, sources = tables
    assert sorted(sources) == ["APIC", "DSDT", "FACP", "XSDT"]
    for source in sources.values():
        assert not re.search(r"(incorrect|invalid|unknown|\*\*\*\*)", source, re.IGNORECASE), source


@pytest.mark.parametrize("table", ["APIC", "DSDT", "FACP", "XSDT"])
def test_compile_again(tables, table):
    where, _ = tables
    output = iasl("-p", f"again-{table}", f"{table}.dsl", cwd=where)
    assert "0 Errors" in output or "Compilation successful" in output


def test_dsdt_says_what_is_there(tables):
    source = tables[1]["DSDT"]
    assert source.count('"LNRO0005"') == 32
    assert "0xD001F000,         // Address Base" in source
    assert "0x00000200,         // Address Length" in source
    assert source.count("Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive") == 34
    assert 'EisaId ("PNP0501")' in source
    assert "IO (Decode16" in source
    assert re.search(r"Name \(\\?_S5", source)


def test_dsdt_has_a_power_button(tables):
    """One of the control method kind, which the generic event device tells of its press."""
    source = tables[1]["DSDT"]
    assert 'EisaId ("PNP0C0C")' in source and '"ACPI0013"' in source
    method = re.search(r"Method \(_EVT, 1, Serialized\)[^{]*\{(.*?)\}", source, re.DOTALL)
    assert re.search(r"Notify \(PWRB, 0x80\)", method.group(1))
    assert "Control Method Power Button (V1) : 1" in tables[1]["FACP"]


def test_fadt_says_what_is_not(tables):
    source = tables[1]["FACP"]
    for line in [
        "Legacy Devices Supported (V2) : 0",
        "8042 Present on ports 60/64 (V2) : 0",
        "VGA Not Present (V4) : 1",
        "CMOS RTC Not Present (V5) : 1",
        "Hardware Reduced (V5) : 1",
        "Reset Register Supported (V2) : 1",
    ]:
        assert line in source
