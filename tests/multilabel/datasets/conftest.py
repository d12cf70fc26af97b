import struct
from itertools import accumulate

import pytest

STDAA = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"


@pytest.fixture
def apt_sources(tmp_path, monkeypatch):
    """Have apt know these sources only; gives the file that the machine's own hook would make."""

    def use(lines):
        sources = tmp_path / "sources.list"
        sources.write_text(lines)
        hook = tmp_path / "hook-was-run"
        conf = tmp_path / "machine.conf"
        conf.write_text(
            f'Dir::Etc::SourceList "{sources}";\nDir::Etc::SourceParts "/dev/null";\n'
            f'APT::Update::Post-Invoke {{"touch {hook}";}};\n'
            'Acquire::http::Proxy "http://127.0.0.1:9";\n'
        )
        monkeypatch.setenv("APT_CONFIG", str(conf))
        return hook

    return use


@pytest.fixture
def write_database():
    """Write titles and sequences as makeblastdb -blastdb_version 4 does."""

    def write(stem, records):
        headers = [_header(title) for title, _ in records]
        sequences = [bytes(STDAA.index(letter) for letter in text) + b"\0" for _, text in records]
        of_headers = list(accumulate(map(len, headers), initial=0))
        of_sequences = list(accumulate(map(len, sequences), initial=1))
        title, date = b"proteins", b"Jan 20, 2022\0\0\0\0"
        index = struct.pack(">iiI", 4, 1, len(title)) + title + struct.pack(">I", len(date)) + date
        index += struct.pack(">I", len(records)) + struct.pack("<Q", sum(map(len, sequences)) - len(records))
        index += struct.pack(">I", max(len(text) for _, text in records))
        index += struct.pack(f">{2 * len(records) + 2}I", *of_headers, *of_sequences)
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(f"{stem.name}.pin").write_bytes(index)
        stem.with_name(f"{stem.name}.phr").write_bytes(b"".join(headers))
        stem.with_name(f"{stem.name}.psq").write_bytes(b"\0" + b"".join(sequences))

    return write


def _header(title):
    text, n = title.encode(), len(title)
    size = (n.bit_length() + 7) // 8
    length = bytes([n]) if n < 128 else bytes([128 + size]) + n.to_bytes(size, "big")
    # a sequence id, a taxon and four ends of constructed values follow
    rest = bytes.fromhex("0000a180020100000000a2800201000000")
    return bytes.fromhex("30803080a0801a") + length + text + rest
