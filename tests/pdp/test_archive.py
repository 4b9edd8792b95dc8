"""Archives that say two things, or none: refused with what, where and what to do; and never extracted."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdp.policies import HEAD

from fumehood.errors import ConfigError
from fumehood.pdp import load_bundle
from fumehood.pdp.archive import MAX_BYTES, ArchiveError, checked_name, read_archive, write_archive

FILES = {"p/x.rego": HEAD.encode(), "data.json": b"{}"}


SPARSE = (("major", "0"), ("minor", "1"), ("map", "0,0"), ("size", str(1 << 50)))


def tar(*entries: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A `tar.gz` of these entries, whatever they are called."""
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w", format=form) as archive:
        for entry in entries:
            if isinstance(entry, tuple):
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
            else:
                archive.addfile(entry)
    return gzip.compress(unpacked.getvalue(), 1)


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refusal(packed: bytes) -> str:
    with pytest.raises(ArchiveError) as raised:
        read_archive(packed)
    assert raised.value.remedy
    return f"{raised.value.name} {raised.value}"


def test_what_is_written_is_read_and_is_the_same_each_time() -> None:
    packed = write_archive(FILES)
    assert read_archive(packed) == FILES
    assert write_archive(dict(reversed(FILES.items()))) == packed


def test_names_as_opa_and_tar_write_them_mean_the_top_of_the_bundle() -> None:
    folder = entry("./p", tarfile.DIRTYPE)
    packed = tar(
        entry("./", tarfile.DIRTYPE), folder, ("./p/x.rego", b"1"), ("/y.rego", b"2"), ("z.rego", b"3")
    )
    assert read_archive(packed) == {"p/x.rego": b"1", "y.rego": b"2", "z.rego": b"3"}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.CONTTYPE, "something unknown"),
        (b"Z", "something unknown"),
    ],
)
def test_entry_that_is_no_file_is_refused(kind: bytes, says: str) -> None:
    assert (
        refusal(tar(("a.rego", b""), entry("x.rego", kind, "/etc/passwd"))) == f"x.rego is {says}, not a file"
    )


ESCAPES = ["../x.rego", "a/../../x.rego", "/../x.rego", "./../x", "..", "a/..", "//x.rego", "a//b", "a/./b"]
HIDDEN = ["a\\b", "..\\x", "a\nb", "a\x1b[31m", "a\u202egol", "a\u200b", "\ue000", "", "/", ".", "././x"]


@pytest.mark.parametrize("name", [*ESCAPES, *HIDDEN])
def test_name_that_leads_elsewhere_or_hides_something_is_refused(name: str) -> None:
    with pytest.raises(ArchiveError):
        checked_name(name)
    if name and "\x00" not in name:
        refusal(tar((name, b"x")))


@pytest.mark.parametrize("names", [("x.rego", "x.rego"), ("/x.rego", "x.rego"), ("./x.rego", "/x.rego")])
def test_name_that_stands_twice_is_refused(names: tuple[str, str]) -> None:
    assert "stands twice" in refusal(tar(*((name, b"") for name in names)))


@pytest.mark.parametrize(
    "names", [("caf\u00e9.rego", "cafe\u0301.rego"), ("\ufb01.rego", "fi.rego"), ("Ⅷ", "VIII")]
)
def test_names_that_differ_only_in_unicode_form_are_refused(names: tuple[str, str]) -> None:
    assert "another Unicode form" in refusal(tar(*((name, b"") for name in names)))


def test_name_that_is_not_utf8_is_refused() -> None:
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("caf\u00e9"))
    assert "not a whole tar archive" in refusal(gzip.compress(unpacked.getvalue()))


def test_sparse_file_that_would_fill_the_memory_is_refused() -> None:
    info = tarfile.TarInfo("huge.rego")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(1 << 50),
    }
    assert "a sparse file" in refusal(tar(info))


def test_gzip_bomb_ends_at_the_limit() -> None:
    bomb = gzip.compress(bytes(MAX_BYTES + 10), 9)
    assert len(bomb) < 100_000
    assert "more than 64 MiB" in refusal(bomb)


def test_bomb_of_many_members_ends_at_the_limit() -> None:
    member = gzip.compress(bytes(1 << 20), 9)
    assert "more than 64 MiB" in refusal(member * 70)


def test_archive_of_too_many_entries_is_refused() -> None:
    assert "more than 4000 entries" in refusal(tar(*((f"{n}", b"") for n in range(4001))))


@pytest.mark.parametrize("size", [10**15, 8**11 - 1])
def test_size_that_is_a_lie_is_refused(size: int) -> None:
    info = tarfile.TarInfo("x.rego")
    info.size = size
    unpacked = info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512 + bytes(1024)
    refusal(gzip.compress(unpacked))


def test_damage_in_the_middle_is_not_the_end() -> None:
    unpacked = bytearray(gzip.decompress(tar(("a.rego", b"1"), ("b.rego", b"2"))))
    unpacked[1024 + 148] ^= 0x41  # the check sum of the second header
    assert "damaged" in refusal(gzip.compress(bytes(unpacked)))


def test_what_follows_the_end_is_refused() -> None:
    whole = gzip.decompress(write_archive(FILES))
    assert "after its end" in refusal(gzip.compress(whole + gzip.decompress(tar(("evil.rego", b"")))))
    assert "after its end" in refusal(gzip.compress(whole + b"x"))
    assert "gzip" in refusal(write_archive(FILES) + b"x")


@pytest.mark.parametrize("cut", [0, 1, 9, 20, -1, -8, -30])
def test_archive_that_was_cut_is_refused(cut: int) -> None:
    refusal(write_archive(FILES)[:cut])


@given(at=st.integers(0, 4607), flip=st.integers(1, 255))
def test_no_flipped_byte_loses_a_file(at: int, flip: int) -> None:
    unpacked = bytearray(gzip.decompress(tar(*FILES.items(), form=tarfile.USTAR_FORMAT)))
    unpacked[at % len(unpacked)] ^= flip
    try:
        assert len(read_archive(gzip.compress(bytes(unpacked), 1))) == len(FILES)
    except ArchiveError:
        pass


@given(content=st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for packed in (content, gzip.compress(content, 1)):
        try:
            read_archive(packed)
        except ArchiveError:
            pass


NAMES = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="/\\"), min_size=1, max_size=40)


@given(files=st.dictionaries(NAMES, st.binary(max_size=100), max_size=5))
def test_any_files_survive(files: dict[str, bytes]) -> None:
    try:
        packed = write_archive(files)
        assert read_archive(packed) == files
    except ArchiveError as error:
        assert error.name in files


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tar(("../x.rego", b"")), r"bundle\.tar\.gz:\.\./x\.rego:1:1: leads out of the bundle"),
        (lambda: b"hello", r"bundle\.tar\.gz:1:1: is not a whole gzip file"),
        (lambda: tar(("x.rego", b"\xff")), r"x\.rego:1:1: cannot be read: .*utf-8"),
        (lambda: tar(("x.rego", b"x" * (1 << 20) + b"x")), "larger than 1048576 bytes"),
        (lambda: tar(("policy.wasm", b"")), "WebAssembly is not run here"),
        (lambda: tar(("a/plan.json", b"")), "plans are not run here"),
        (lambda: tar(("patch.json", b"{}")), "a delta has nothing"),
        (lambda: tar((".manifest.pb", b"")), "protobuf"),
        (lambda: tar(("a/.manifest", b"{}")), "OPA would take it for the manifest"),
        (lambda: tar(("my_signatures.json", b"{}")), "OPA would take it for the signatures"),
        (lambda: tar(), "there is no policy"),
    ],
)
def test_bundle_that_cannot_be_used_is_refused_with_the_place(
    make: Callable[[], bytes], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(make())
    with pytest.raises(ConfigError, match=says) as raised:
        load_bundle([path])
    assert all(problem.remedy for problem in raised.value.problems)
    assert not set(tmp_path.iterdir()) - {path}
